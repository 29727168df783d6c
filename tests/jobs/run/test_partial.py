import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cluster.pool.dispatcher import QuarantinedBlock
from ensemble.errors import PartialError
from ensemble.images.shard import ShardSpec
from jobs.progress import record as progress_record
from jobs.run.predict import list_unpredicted
from jobs.stored_runs.layout import RunFolder

from ...members import make_member
from ..conftest import Command

MEMBER = make_member("fragile")
LEFT_OUT = [QuarantinedBlock(MEMBER, ShardSpec(("a", "b", "c")), "It died.")]


def test_what_is_missing_is_said_with_the_reason_and_the_way_out() -> None:
    expected = r"1 blocks are missing.*'fragile' on 3 images from 'a' to 'c' \(It died\.\).*--allow"
    with pytest.raises(PartialError, match=expected):
        list_unpredicted(LEFT_OUT, allow_partial=False)


def test_where_that_is_allowed_the_images_are_left_out() -> None:
    images = list_unpredicted(LEFT_OUT, allow_partial=True)
    assert [image.image_id for image in images] == ["a", "b", "c"]
    assert {image.reason for image in images} == {
        "predicting its shard with fragile killed the worker"
    }


def test_nothing_missing_is_nothing_to_say() -> None:
    assert list_unpredicted([], allow_partial=False) == ()


NETS = """
import os
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, seed, is_deadly):
        super().__init__()
        self.is_deadly = is_deadly
        self.fc = nn.Linear(192, 3, bias=False)
        with torch.no_grad():
            self.fc.weight.normal_(generator=torch.Generator().manual_seed(seed))

    def forward(self, images):
        pixels = images.flatten(1)
        if self.is_deadly and bool((pixels.amin(1) > 1.9).any()):  # an image that is all white
            os._exit(1)
        return self.fc(pixels)


def sound():
    return Net(0, False)


def deadly():
    return Net(1, True)
"""
CONFIG = """
name: night
images: {source: {kind: folder, path: images}, split: {train: 0, search: 45}}
members:
  - name: sound
    source: "factory:user_nets:sound"
    preprocessing: {size: 8, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}
  - name: deadly
    source: "factory:user_nets:deadly"
    preprocessing: {size: 8, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}
weights: {trust_code: true}
report: {top_k: 2}
cluster: {device: cpu, hosts: 2, shard_images: 10, object_store_mb: 128}
"""


def _write(folder: Path) -> Path:
    """A pool of which one member dies of one image in ninety."""
    rng = np.random.default_rng(0)
    for label in "abc":
        (folder / "images" / label).mkdir(parents=True)
        for number in range(30):
            pixels = rng.integers(0, 200, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "images" / label / f"{number:02d}.png")
    white = np.full((8, 8, 3), 255, np.uint8)
    Image.fromarray(white).save(folder / "images" / "b" / "07.png")
    (folder / "user_nets.py").write_text(NETS)
    config = folder / "night.yaml"
    config.write_text(CONFIG)
    return config


@pytest.mark.ray
@pytest.mark.nightly
def test_a_run_with_poison_ends_with_code_five_and_goes_on_without_it_where_that_is_allowed(
    command: Command, tmp_path: Path
) -> None:
    config = _write(tmp_path)
    done = command("run", config, cwd=tmp_path)
    assert done.returncode == 5, done.stderr
    assert "PartialError: 1 blocks are missing" in done.stderr
    assert "'deadly' on 10 images from" in done.stderr
    lines = [line for line in done.stderr.splitlines() if "attempt 3 of 3" in line]
    assert [line.split("; ")[-1] for line in lines] == ["quarantine this block and go on"]
    run = tmp_path / "runs" / "night"
    assert not (run / "report.json").exists()
    assert progress_record.read(RunFolder(run)).state == "failed"

    done = command("resume", run, "--allow-partial", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((run / "report.json").read_text())
    reasons = {bad["image_id"]: bad["reason"] for bad in report["data"]["bad_images"]}
    assert "b/07.png" in reasons
    assert len(reasons) == 10
    assert set(reasons.values()) == {"predicting its shard with deadly killed the worker"}
    assert report["data"]["num_images"] == 80
    assert sum(part["images"] for part in report["data"]["splits"]) == 80
    assert report["execution"]["forward_passes"] == 0
    assert "10 images" in (run / "report.html").read_text()
