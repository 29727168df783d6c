"""Views that are members of their own, through run, table, search and artifact."""

import json
from pathlib import Path

import numpy as np
import pytest

from ensemble import predictor
from ensemble.images.open import open_source
from ensemble.images.settings import DigitsConfig, SplitConfig
from ensemble.images.split import split
from ensemble.report.documents.run import Report

from ..conftest import Command

pytestmark = pytest.mark.ray

CONFIG = """
images:
  source: {kind: digits}
  split: {train: 40, search: 60, test: 50}
recipes: {default: {epochs: 2}}
members:
  - name: kept
    source: {kind: recipe, architecture: mobilenet_v2_small}
    views: {kind: dense, short_sides: [16, 20], flip: true, keep_views: true}
  - {name: plain, source: {kind: recipe, architecture: mobilenet_v2_small}}
search: {kind: uniform}
cluster: {device: cpu, hosts: 2, shard_images: 64, object_store_mb: 128}
"""
NAMES = ["kept@dense16", "kept@dense16-flip", "kept@dense20", "kept@dense20-flip", "plain"]


@pytest.mark.nightly
def test_every_kept_view_is_weighed_and_the_network_is_saved_once(
    command: Command, tmp_path: Path
) -> None:
    (tmp_path / "views.yaml").write_text(CONFIG)
    done = command("run", "views.yaml", "name=views", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "table: 5 columns" in done.stdout
    folder = tmp_path / "runs" / "views"
    report = Report.model_validate_json((folder / "report.json").read_text())
    assert [member.name for member in report.members] == NAMES
    assert [member.views for member in report.members][2:4] == ["dense20", "dense20-flip"]
    assert report.execution.trained == 1  # equal recipes, so both are one network
    assert report.execution.forward_passes == 5 * 110
    searched = command("search", folder, "kind=paper", cwd=tmp_path)
    assert searched.returncode == 0, searched.stderr
    found = predictor.load(folder / "ensemble")
    assert [member.name for member in found.members] == NAMES
    files = sorted(path.name for path in (folder / "ensemble" / "members").iterdir())
    assert [file.partition("-")[0] for file in files] == ["kept", "plain"]
    config = json.loads((folder / "config.json").read_text())
    digits = open_source(DigitsConfig())
    parts = split(digits.index(), SplitConfig(**config["images"]["split"]), config["seed"])
    pixels = np.stack([digits.decode(str(image_id)) for image_id in parts.test.image_ids])
    answers = found.predict(pixels).answers
    assert int((answers != parts.test.labels).sum()) == report.chosen.score.top1_errors
