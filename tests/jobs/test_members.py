"""Pools on the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ensemble import models
from ensemble.errors import ConfigError
from jobs.pools import load_pool
from jobs.settings import load_run_config

from .conftest import Command

SHIPPED = ("imagenet13", "imagenet13-public")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_pool_has_the_seats_of_the_paper(name: str) -> None:
    members = load_pool(name)
    assert len(members) == len({member.name for member in members}) == 13
    assert [member.name for member in members][:2] == ["alexnet", "googlenet"]


def test_public_pool_needs_nothing_of_the_users_own() -> None:
    members = load_pool("imagenet13-public")
    assert {member.source.kind for member in members} == {"torchvision", "timm"}
    assert all(member.reference for member in members)


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Two members of our own architectures, with weights drawn at random."""
    lines = ["members:"]
    for seed in (0, 1):
        network = models.build("alexnet_small", 2, seed)
        torch.save(network.state_dict(), tmp_path / f"{seed}.pth")
        lines.append(
            f"  - {{name: m{seed}, source: {{kind: checkpoint, path: {tmp_path}/{seed}.pth, "
            "architecture: alexnet_small}, preprocessing: {size: 16, mean: [0, 0, 0], std: [1, 1, 1]}, "
            f"reference: {{top1_error: {100 - 99 * seed}}}}}"
        )
    path = tmp_path / "pool.yaml"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Noise, of two classes: no member can err on less than half of it but by luck."""
    rng = np.random.default_rng(0)
    for label in "ab":
        (tmp_path / "images" / label).mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{i}.png")
    return tmp_path / "images"


def test_pool_is_listed_without_its_weights(command: Command, pool: Path, tmp_path: Path) -> None:
    (tmp_path / "1.pth").unlink()
    done = command("members", pool, "--json")
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout)
    with torch.device("meta"):
        expected = sum(p.numel() for p in models.build("alexnet_small", 1000).parameters())
    assert first["parameters"] == second["parameters"] == expected
    assert first["gflops"] > 0
    assert (first["is_present"], second["is_present"]) == (True, False)
    assert first["reference"] == {"top1_error": 100.0, "top5_error": None}


def test_preflight_names_the_member_that_errs_too_often(
    command: Command, pool: Path, folder: Path, tmp_path: Path
) -> None:
    done = command("doctor", pool, "--images", folder, "probe=30", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    passed, failed = done.stdout.splitlines()
    assert passed.startswith("ok   m0: top-1 error")
    assert "on 30 images; reference 100 %" in passed
    assert failed.startswith("FAIL m1: top-1 error")
    assert "reference 1 %, p = " in failed


def test_a_run_takes_a_pool_by_name_and_writes_it_out(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "images: {source: {kind: digits}, split: {train: 0}}\npool: imagenet13-public\n"
    )
    config = load_run_config(path)
    assert (config.pool, len(config.members)) == (None, 13)
    assert type(config).model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("pool: imagenet31", r"no pool 'imagenet31'\. Did you mean 'imagenet13'"),
        ("pool: none.yaml", r"cannot read the config 'none\.yaml'"),
        ("", "give either `members` or a `pool`, and not both"),
        (
            "pool: imagenet13\nmembers: [{name: a, source: 'timm:x'}]",
            "give either `members` or a `pool`",
        ),
    ],
)
def test_pool_that_is_not_there_is_refused(tmp_path: Path, line: str, match: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"images: {{source: {{kind: digits}}, split: {{train: 0}}}}\n{line}\n")
    with pytest.raises(ConfigError, match=match):
        load_run_config(path)
