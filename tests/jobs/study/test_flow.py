"""Whole studies on the pool: broken rows, the networks as a pool, and kills."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import Command

pytestmark = [pytest.mark.ray, pytest.mark.nightly]

STUDY = """
images: {source: {kind: digits}, split: {train: 100, search: 200, test: 300}}
pretraining:
  images: {source: {kind: digits, only: [0, 1, 2, 3, 4]}, split: {train: 100, search: 50}}
  recipe: {epochs: 1}
seeds: 2
max_parameters: 300000
resamples: 200
base: {architecture: mobilenet_v2_small, recipe: {epochs: 2}}
stages:
  - name: network
    variants:
      resnet: {architecture: resnet14_small}
      too-wide: {architecture: wide_resnet16_2}
      diverging: {recipe: {optimizer: {kind: sgd, lr: 10, weight_decay: 1}}}
      after-diverging: {start: diverging}
      both: {adds_validation: true}
      shifted: {views: {kind: shifts_and_scales}}
      further: {start: base}
      tuned: {start: pretrained}
      deep-tuned: {architecture: resnet14_small, start: pretrained}
    averages: {two: {base: 2}, two-and-one: {base: 1, tuned: 1}, three: {too-wide: 1}}
  - name: epochs
    grid: {recipe.epochs: [3, 4]}
  - name: clusters
    subclassifiers: {num_clusters: [2, 3], recipe: {epochs: 1}}
groups: {round: ["0", "3", "6", "8", "9"], straight: ["1", "2", "4", "5", "7"]}
cluster: {device: cpu, hosts: 2, shard_images: 64, object_store_mb: 128}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "tiny.yaml"
    path.write_text(STUDY)
    return path


@pytest.fixture(scope="module")
def undisturbed(study: Path, command: Command) -> dict[str, object]:
    done = command("study", study, "name=tiny", "--json", cwd=study.parent)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def _tables(report: object, folder: Path) -> object:
    """Everything but wall times; the reason of a row names weights below the folder that the study ran in."""
    return json.loads(json.dumps(_without_seconds(report)).replace(str(folder), ""))


def _without_seconds(report: object) -> object:
    if isinstance(report, dict):
        return {k: _without_seconds(v) for k, v in report.items() if k != "seconds"}
    return [_without_seconds(v) for v in report] if isinstance(report, list) else report


def test_broken_and_too_large_rows_have_a_reason_and_the_others_figures(
    undisturbed: dict[str, object],
) -> None:
    stages = undisturbed["stages"]
    assert isinstance(stages, list)
    rows = {row["name"]: row for row in stages[0]["rows"]}
    assert "691,674 parameters, and the budget is 300,000" in rows["too-wide"]["reason"]
    assert "NaN" in rows["diverging"]["reason"]
    assert "cannot start from 'diverging-seed0'" in rows["after-diverging"]["reason"]
    assert rows["both"]["validation"] is None
    assert rows["both"]["test"]["mean"] < 1
    assert rows["shifted"]["validation"] is not None
    assert rows["further"]["test"]["mean"] <= rows["base"]["test"]["mean"]
    assert rows["base"]["test"]["sd"] is not None
    assert sum(row["is_winner"] for row in rows.values()) == 1
    winner = next(row for row in rows.values() if row["is_winner"])
    assert stages[1]["rows"][0]["architecture"] == winner["architecture"]


def test_averages_of_networks_that_no_other_one_has_are_rows_that_cannot_win(
    undisturbed: dict[str, object],
) -> None:
    stages = undisturbed["stages"]
    assert isinstance(stages, list)
    rows = {row["name"]: row for row in stages[0]["rows"]}
    assert "set take to the layers" in rows["deep-tuned"]["reason"]
    assert "it is not trained" in rows["three"]["reason"]
    assert (rows["tuned"]["n"], rows["two"]["n"], rows["two-and-one"]["n"]) == (2, 1, 2)
    assert rows["two"]["parameters"] == 2 * rows["base"]["parameters"]
    assert rows["two-and-one"]["average_of"] == {"base": 1, "tuned": 1}
    assert rows["two-and-one"]["against_base"] is not None
    assert (rows["two"]["chosen_share"], rows["two"]["is_winner"]) == (None, False)
    assert rows["two"]["test"]["sd"] is None


def test_subclassifiers_are_rows_with_their_accuracies_and_agreement(
    undisturbed: dict[str, object],
) -> None:
    stages = undisturbed["stages"]
    assert isinstance(stages, list)
    base, longer, *routed = stages[2]["rows"]
    assert [row["name"] for row in routed] == ["2-clusters", "3-clusters"]
    assert (base["n"], longer["name"], longer["parameters"]) == (
        2,
        "base-trained-on",
        base["parameters"],
    )
    for row, clusters in zip(routed, stages[2]["clusters"], strict=True):
        assert row["parameters"] > clusters["num_clusters"] * base["parameters"]
        # The threshold that routes nothing is one of those that are tried.
        assert row["validation"]["mean"] <= base["validation"]["mean"]
        assert clusters["base"]["mean"] == pytest.approx(1 - base["test"]["mean"])
        assert clusters["base"]["mean"] <= clusters["restricted"]["mean"]
        assert clusters["restricted"]["mean"] <= clusters["restricted_topk"]["mean"]
        assert len(clusters["seeds"]) == 2
        assert -1 <= clusters["adjusted_rand"]["mean"] <= 1


def test_the_networks_are_a_pool_of_which_nothing_is_computed_again(
    undisturbed: dict[str, object], study: Path, command: Command
) -> None:
    done = command("run", study.parent / "runs" / "tiny" / "networks.yaml", cwd=study.parent)
    assert done.returncode == 0, done.stderr
    assert "0 members and sub-classifiers trained" in done.stdout + done.stderr
    assert "; 0 forward passes" in done.stdout + done.stderr


def test_a_study_that_is_killed_five_times_has_the_same_tables(
    undisturbed: dict[str, object], study: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    words = [sys.executable, "-m", "jobs", "study", str(study), "name=tiny", "--json"]
    rng, kills = random.Random(0), 0
    for _ in range(40):
        with subprocess.Popen(
            words,
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            # Any moment of it: the start of Ray, a training, a prediction, the second stage.
            try:
                process.wait(rng.uniform(4, 25))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
        if kills == 5:
            break
    assert kills == 5
    done = subprocess.run(
        words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert _tables(json.loads(done.stdout), tmp_path) == _tables(undisturbed, study.parent)
