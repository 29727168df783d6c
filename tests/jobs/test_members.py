"""Pools on the command line."""

import json
from hashlib import sha256
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from rich.console import Console

from ensemble.errors import CheckpointError, ConfigError
from ensemble.models import registry as models
from ensemble.storage.open import open_store
from ensemble.storage.settings import S3Config
from jobs.members import describe_pool
from jobs.pools import load_pool
from jobs.preflight import preflight
from jobs.settings import load_run_config

from .conftest import Command

SHIPPED = ("imagenet13", "imagenet13-public")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_pool_has_the_seats_of_the_paper(name: str) -> None:
    members = load_pool(name)
    assert len(members) == len({member.name for member in members}) == 13
    assert [member.name for member in members][:2] == ["alexnet", "googlenet"]


def test_seats_start_from_published_weights_on_images_of_the_users_own() -> None:
    members = load_pool("transfer13")
    assert [m.name for m in members] == [m.name for m in load_pool("imagenet13-public")]
    assert {member.source.start.kind for member in members} == {"torchvision", "timm"}
    assert all(member.source.architecture is None for member in members)


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


def test_pool_is_listed_without_its_weights(
    command_here: Command, pool: Path, tmp_path: Path
) -> None:
    (tmp_path / "1.pth").unlink()
    done = command_here("members", pool, "--json")
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout)
    with torch.device("meta"):
        expected = sum(p.numel() for p in models.build("alexnet_small", 1000).parameters())
    assert first["parameters"] == second["parameters"] == expected
    assert first["gflops"] > 0
    assert (first["is_present"], second["is_present"]) == (True, False)
    assert first["reference"] == {"top1_error": 100.0, "top5_error": None}


def test_preflight_names_the_member_that_errs_too_often(
    command_here: Command, pool: Path, folder: Path, tmp_path: Path
) -> None:
    done = command_here("doctor", pool, "--images", folder, "probe=30", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    passed, failed = done.stdout.splitlines()
    assert passed.startswith("ok   m0: top-1 error")
    assert "on 30 images; reference 100 %" in passed
    assert failed.startswith("FAIL m1: top-1 error")
    assert "reference 1 %, p = " in failed


def listed(path: Path, *members: str) -> str:
    path.write_text("\n".join(["members:", *(f"  - {member}" for member in members)]))
    return str(path)


def test_pool_says_which_file_each_member_must_have(tmp_path: Path) -> None:
    pool = listed(
        tmp_path / "pool.yaml",
        "{name: pinned, source: {kind: timm, name: test_efficientnet.r160_in1k, sha256: 1234abcd}}",
        "{name: any, source: 'timm:test_efficientnet.r160_in1k'}",
        "{name: named, source: 'torchvision:squeezenet1_1@IMAGENET1K_V1'}",
        "{name: far, source: {kind: checkpoint, path: 's3://bucket/a.pth', architecture: alexnet_small}, "
        "preprocessing: {size: 16, mean: [0, 0, 0], std: [1, 1, 1]}}",
    )
    cards = describe_pool(pool, [f"weights.mirror={tmp_path}"])
    assert [card.sha256 for card in cards] == ["1234abcd", None, "b8a52dc0", None]
    assert not any(card.is_present for card in cards)
    assert (cards[3].file, cards[3].gflops is None) == ("s3://bucket/a.pth", False)


@pytest.mark.parametrize(
    ("member", "error", "match"),
    [
        (
            "{name: small, source: 'torchvision:alexnet', preprocessing: {size: 8}}",
            ConfigError,
            r"'small' takes no image of 8 pixels: .*Set preprocessing\.size",
        ),
        (
            "{name: far, source: 'checkpoint:s3://bucket/a.safetensors'}",
            CheckpointError,
            r"s3://bucket/a\.safetensors of member 'far' is not on this machine.*`architecture`",
        ),
    ],
)
def test_member_that_cannot_be_described_is_named(
    tmp_path: Path, member: str, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        describe_pool(listed(tmp_path / "pool.yaml", member), [])


def test_preflight_names_the_images_that_it_leaves_out(
    pool: Path, folder: Path, tmp_path: Path
) -> None:
    (folder / "a" / "torn.png").write_bytes((folder / "a" / "0.png").read_bytes()[:100])
    (folder / "b" / "lost.png").symlink_to("../../gone.png")
    (folder / ".DS_Store").touch()
    Image.new("RGB", (30_000, 1)).save(folder / "b" / "strip.png")
    text = pool.read_text().replace("size: 16,", "size: 16, resize: 256,", 1)
    pool.write_text(text)
    console = Console(file=StringIO(), width=200)
    preflight(str(pool), str(folder), [f"runs={tmp_path}"], console, as_json=False)
    aside, bad, strip, first, second = console.file.getvalue().splitlines()
    assert aside == "left aside: 1 hidden files or leftovers of other systems, as '.DS_Store'"
    assert bad.startswith(
        "2 images cannot be decoded and are left out: b/lost.png: a link to '../../gone"
    )
    assert "; a/torn.png: OSError" in bad
    assert strip.startswith(
        "1 images cannot be decoded and are left out: b/strip.png: 30000 x 1 pixels"
    )
    assert "on 40 images (3 that cannot be decoded left out)" in first
    assert "on 41 images (2 that cannot be decoded left out)" in second
    console = Console(file=StringIO(), width=200)
    preflight(str(pool), str(folder), [f"runs={tmp_path}"], console, as_json=True)
    documents = json.loads(console.file.getvalue())
    assert [len(document["bad_images"]) for document in documents] == [3, 2]


def test_preflight_fetches_checkpoints_from_s3(
    pool: Path, folder: Path, tmp_path: Path, moto_port: int
) -> None:
    storage = S3Config(endpoint=f"http://127.0.0.1:{moto_port}")
    store = open_store("s3://tables/pool", storage)
    for name in ("0.pth", "1.pth"):
        store.replace(name, (tmp_path / name).read_bytes())
        (tmp_path / name).unlink()
    pool.write_text(pool.read_text().replace(f"path: {tmp_path}/", "path: s3://tables/pool/"))
    console = Console(file=StringIO(), width=200)
    words = ["probe=30", f"storage.endpoint={storage.endpoint}", f"runs={tmp_path}"]
    assert not preflight(str(pool), str(folder), words, console, as_json=False)
    passed, failed = console.file.getvalue().splitlines()
    assert passed.startswith("ok   m0")
    assert failed.startswith("FAIL m1")


def test_preflight_holds_weights_of_a_library_to_its_figures(folder: Path, tmp_path: Path) -> None:
    network = torchvision.models.squeezenet1_1(num_classes=1000)
    (tmp_path / "mirror").mkdir()
    path = tmp_path / "mirror" / "squeezenet1_1-b8a52dc0.pth"
    torch.save(network.state_dict(), path)
    digest = sha256(path.read_bytes()).hexdigest()
    outputs = [*"ab", *(f"other {i}" for i in range(998))]
    (tmp_path / "outputs.txt").write_text("\n".join(outputs))
    pool = listed(
        tmp_path / "pool.yaml",
        "{name: squeezed, source: {kind: torchvision, name: squeezenet1_1, weights: IMAGENET1K_V1, "
        f"sha256: {digest}}}, label_map: {tmp_path}/outputs.txt, preprocessing: {{size: 32, resize: 32}}}}",
    )
    console = Console(file=StringIO(), width=400)
    words = ["probe=4", f"weights.mirror={tmp_path}/mirror", f"runs={tmp_path}"]
    preflight(pool, str(folder), words, console, as_json=False)
    assert "on 4 images; reference 41.822 % and 19.376 %" in console.file.getvalue()


def test_preflight_of_a_member_that_a_run_trains_is_refused(folder: Path, tmp_path: Path) -> None:
    member = "{name: own, source: {kind: recipe, architecture: alexnet_small}}"
    with pytest.raises(ConfigError, match=r"own: trained by the run .* nothing to probe yet"):
        preflight(
            listed(tmp_path / "pool.yaml", member), str(folder), [], Console(quiet=True), False
        )


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
