"""The main job, end to end, on real images and a real Ray."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ensemble import predictor
from ensemble.evaluation import metrics
from ensemble.images.open import open_source
from ensemble.images.settings import DigitsConfig
from ensemble.report.documents.run import Report
from jobs.progress import record as progress_record
from jobs.stored_runs.layout import RunFolder

from ..conftest import Command

pytestmark = pytest.mark.ray


def _report(folder: Path) -> Report:
    return Report.model_validate_json((folder / "report.json").read_text())


def _reproducible(folder: Path) -> dict[str, Any]:
    document = _report(folder).reproducible()
    del document["name"]
    return document


def test_a_run_leaves_what_it_promises(finished_runs: Path) -> None:
    first = finished_runs / "tiny"
    files = {"config.json", "progress.json", "columns.json", "report.json", "report.html"}
    assert {path.name for path in first.iterdir()} == files | {"table", "ensemble"}
    progress = progress_record.read(RunFolder(first))
    assert (progress.run, progress.state) == ("tiny", "finished")
    assert progress.members["mobilenet"].images == 140
    report = _report(first)
    assert [split.images for split in report.data.splits] == [60, 80, 60]
    assert [result.key for result in report.results] == [
        "best",
        "uniform_all",
        "uniform_families",
        "uniform_selected",
        "paper",
        "ensemble",
        "ensemble_subclassifiers",
    ]
    assert report.search.stability is not None
    assert report.search.stability.resamples == 200
    assert [line.name for line in report.search.members] == [m.name for m in report.members]
    assert any("8.0 a class" in line for line in report.search.warnings)
    assert report.execution.decoded_images == 200
    # Two members with 5 views and one with 1, and the sub-classifiers of the base.
    assert report.execution.forward_passes >= 140 * 11


def test_a_second_run_computes_nothing_and_finds_the_same(
    runs: Path, command: Command, tiny_config: Path
) -> None:
    before = _reproducible(runs / "tiny")
    abandoned = runs / "cache" / f".{'0' * 32}.partial"
    abandoned.write_bytes(b"of a run that was killed")
    os.utime(abandoned, (0, 0))
    done = command("run", tiny_config, "name=tiny", cwd=runs.parent)
    assert done.returncode == 0, done.stderr
    assert "0 members and sub-classifiers trained" in done.stdout
    assert "; 0 forward passes" in done.stdout
    assert f"removed {abandoned}" in done.stdout
    assert not abandoned.exists()
    assert _reproducible(runs / "tiny") == before


def test_another_member_and_a_new_name_cost_that_members_passes_and_no_others(
    runs: Path, command: Command, tiny_config: Path, tmp_path: Path
) -> None:
    fourth = "  - {name: fourth, source: {kind: recipe, architecture: mobilenet_v2_small, seed: 1},"
    lines = [
        line.replace("name: resnet-0", "name: renamed")
        for line in tiny_config.read_text().splitlines()
        if not line.startswith("subclassifiers")
    ]
    lines.insert(lines.index("members:") + 1, f"{fourth} views: {{kind: center}}}}")
    (tmp_path / "wider.yaml").write_text("\n".join(lines))
    done = command("run", tmp_path / "wider.yaml", "name=wider", cwd=runs.parent)
    assert done.returncode == 0, done.stderr
    assert "420 rows of runs/tiny/table are used again" in done.stdout
    assert "1 members and sub-classifiers trained, 3 from cache; 140 forward passes" in done.stdout


def test_an_interrupted_run_goes_on_and_other_hosts_and_shards_change_nothing(
    finished_runs: Path,
    command: Command,
    tiny_config: Path,
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    words = ["run", str(tiny_config), "name=tiny", "cluster.hosts=1", "cluster.shard_images=256"]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "jobs", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("start Ray: 1/1"):
            process.send_signal(signal.SIGINT)
            break
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command continues" in errors
    assert "Traceback" not in errors
    done = command(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert _reproducible(tmp_path / "runs" / "tiny") == _reproducible(finished_runs / "tiny")


def test_the_artifact_predicts_what_the_report_says(finished_runs: Path) -> None:
    _predicts_what_the_report_says(finished_runs / "tiny")


@pytest.mark.nightly
def test_members_at_temperatures_cost_no_pass_and_are_in_the_artifact(
    runs: Path, command: Command, tiny_config: Path
) -> None:
    words = ("temperature=true", "name=tempered")
    done = command("run", tiny_config, *words, cwd=runs.parent)
    assert done.returncode == 0, done.stderr
    assert "; 0 forward passes" in done.stdout
    tempered = runs / "tempered"
    _predicts_what_the_report_says(tempered)
    told = {m.name: m.temperature for m in _report(tempered).search.members}
    document = json.loads((tempered / "ensemble" / "ensemble.json").read_text())
    kept = {m["name"]: m["temperature"] for m in document["members"] if m["temperature"] != 1}
    assert kept
    assert kept == {name: told[name] for name in kept}


def _predicts_what_the_report_says(run: Path) -> None:
    report = _report(run)
    digits = open_source(DigitsConfig())
    index = digits.index()
    config = json.loads((run / "config.json").read_text())
    from ensemble.images.settings import SplitConfig
    from ensemble.images.split import split

    test = split(index, SplitConfig(**config["images"]["split"]), config["seed"]).test
    pixels = np.stack([digits.decode(str(image_id)) for image_id in test.image_ids])
    prediction = predictor.load(run / "ensemble").predict(pixels)
    assert int((prediction.answers != test.labels).sum()) == report.chosen.score.top1_errors
    np.testing.assert_allclose(prediction.probabilities.sum(axis=1), 1, rtol=1e-5)
    assert report.calibration is not None
    assert report.calibration.test_nll_before == pytest.approx(report.chosen.score.nll, rel=1e-9)
    nll = metrics.nll(prediction.probabilities, test.labels)
    assert nll == pytest.approx(report.calibration.test_nll_after, rel=1e-5)
