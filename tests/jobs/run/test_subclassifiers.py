"""Sub-classifiers in the main job, and their dry run, on a finished run of the tiny config."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from ensemble.checkpoints import file as checkpoint
from ensemble.checkpoints.header import read_metadata
from ensemble.models import registry as models
from ensemble.report.documents.run import Report
from jobs.summary.job import summarise

from ..conftest import Command

pytestmark = pytest.mark.ray


@pytest.fixture
def copy(runs: Path) -> Path:
    """The runs with all weights, and a folder of another run that has the first one's table."""
    shutil.copytree(runs / "tiny" / "table", runs / "other" / "table")
    return runs


def report(folder: Path) -> Report:
    return Report.model_validate_json((folder / "report.json").read_text())


def test_parts_are_disjoint_and_hashed(finished_runs: Path) -> None:
    shown = report(finished_runs / "tiny").subclassifiers
    assert shown is not None
    images = {part.name: part.images for part in shown.parts}
    assert images == {"train": 60, "stopping": 40, "choosing": 40, "test": 60}
    assert len({part.sha256 for part in shown.parts}) == 4
    assert [len(tried.clusters) for tried in shown.tried] == [2, 3]
    assert all(len(tried.stability) == 10 for tried in shown.tried)
    assert [result.key for result in shown.results] == ["first", "control", "paper", "chosen"]


def test_summary_has_the_tables_of_the_paper(finished_runs: Path) -> None:
    shown = report(finished_runs / "tiny").subclassifiers
    assert shown is not None
    text = summarise([finished_runs / "tiny", finished_runs / "tiny"])
    _, whole, within = (part.splitlines() for part in text.split("\n\n"))
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in (*whole[2:], *within[2:])]
    for row, result in zip(cells, shown.results, strict=False):
        assert row[1] == f"{100 * (1 - result.errors / 60):.2f} ± 0.00"
        gain = result.against_first
        assert row[2] == (f"{0.0 - 100 * gain.difference:+.2f} ± 0.00" if gain else "")
    for row, tried in zip(cells[4:], shown.tried, strict=True):
        # In counts of right images, as a reader would add up the rows of the report.
        hits = [round((c.sub_top1_accuracy or 0) * c.test_images) for c in tried.clusters]
        assert row[0] == str(tried.num_clusters)
        assert row[4] == f"{100 * sum(hits) / 60:.2f} ± 0.00"
    assert all(len(row) == len(cells[0]) for row in cells[:4])


@pytest.mark.nightly
def test_another_gate_computes_nothing_anew(
    copy: Path, command: Command, tiny_config: Path
) -> None:
    words = ["subclassifiers.gates=[entropy]", "subclassifiers.routings=[hard]"]
    done = command("run", tiny_config, "name=other", *words, cwd=copy.parent)
    assert done.returncode == 0, done.stderr
    assert "0 members and sub-classifiers trained" in done.stdout
    assert "; 0 forward passes" in done.stdout
    before, after = report(copy / "tiny").subclassifiers, report(copy / "other").subclassifiers
    assert before is not None
    assert after is not None
    assert {(t.gate, t.kind) for tried in after.tried for t in tried.trials} == {
        ("entropy", "hard")
    }
    ours, theirs = ([c.classes for c in shown.tried[0].clusters] for shown in (before, after))
    assert ours == theirs


@pytest.mark.nightly
def test_damaged_weights_and_trainings_are_made_anew_and_give_the_same_report(
    copy: Path, command: Command, tiny_config: Path
) -> None:
    weights, lost = sorted((copy / "cache").glob("*.safetensors"))[:2]
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    lost.unlink()
    lost.with_suffix(".progress").write_bytes(b"torn")
    before = report(copy / "tiny")
    done = command("run", tiny_config, cwd=copy.parent)
    assert done.returncode == 0, done.stderr
    assert f"{weights} is damaged and was removed; the weights are trained again" in done.stdout
    assert "is damaged and was removed; the training begins anew" in done.stdout
    assert "2 members and sub-classifiers trained" in done.stdout
    after = report(copy / "tiny")
    changed = {"execution": after.execution, "identity": after.identity}
    assert before.model_copy(update=changed) == after


@pytest.mark.nightly
def test_a_label_cluster_that_fails_falls_back_to_the_base_and_is_named(
    copy: Path, command: Command, tiny_config: Path
) -> None:
    paths = sorted((copy / "cache").glob("*.safetensors"))
    subs = [path for path in paths if len(json.loads(read_metadata(path)["classes"])) < 10]
    lost = subs[0]
    classes = tuple(json.loads(read_metadata(lost)["classes"]))
    lost.unlink()
    lost.with_suffix(".progress").mkdir()
    done = command("run", tiny_config, "name=other", cwd=copy.parent)
    assert done.returncode == 0, done.stderr
    shown = report(copy / "other").subclassifiers
    assert shown is not None
    clusters = {cluster.classes: cluster for tried in shown.tried for cluster in tried.clusters}
    assert ".progress" in (clusters[classes].failure or "")
    assert clusters[classes].sub_top1_accuracy is None
    assert not clusters[classes].is_used
    assert [c.classes for c in clusters.values() if c.failure] == [classes]
    assert "No sub-classifier; the base answers." in (copy / "other" / "report.html").read_text()


def test_plan_counts_what_could_be_gained(finished_runs: Path, command: Command) -> None:
    done = command("subclassifiers", "plan", finished_runs / "tiny", "num_clusters=[2,4]", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [plan["num_clusters"] for plan in found["plans"]] == [2, 4]
    assert found["notes"] == []
    for plan in found["plans"]:
        assert sorted(k for c in plan["clusters"] for k in c["classes"]) == list(range(10))
        assert sum(cluster["train_images"] for cluster in plan["clusters"]) == 60
        assert plan["images"] == 80
        assert all(cluster["seconds"] > 0 for cluster in plan["clusters"])
    told = command("subclassifiers", "plan", finished_runs / "tiny", "num_clusters=[2,4]")
    assert "orth" in told.stdout.splitlines()[-1]
    bad = command("subclassifiers", "plan", finished_runs / "tiny", "num_clusters=[10]")
    assert (bad.returncode, "Expected 2 to 9" in bad.stderr) == (2, True)


def test_plan_without_weights_takes_the_confusion_and_says_so(copy: Path, command: Command) -> None:
    shutil.rmtree(copy / "cache")
    done = command("subclassifiers", "plan", "runs/tiny", "--json", cwd=copy.parent)
    assert done.returncode == 0, done.stderr
    assert "similarity=confusion" in json.loads(done.stdout)["notes"][0]


@pytest.mark.parametrize(
    ("classes", "head", "message"),
    [
        pytest.param(3, "head", "has 3 classes, and the images have 10", marks=pytest.mark.nightly),
        (10, "nowhere", "has no last linear layer that can be fine-tuned"),
    ],
)
def test_a_base_of_other_classes_or_without_a_head_is_exit_code_2_before_anything_is_trained(
    tiny_config: Path, command: Command, tmp_path: Path, classes: int, head: str, message: str
) -> None:
    torch.manual_seed(0)
    path = tmp_path / "given.safetensors"
    checkpoint.save(
        models.build("resnet14_small", classes),
        path,
        {
            "architecture": "resnet14_small",
            "classes": json.dumps(list(range(classes))),
            "head": head,
            "parameters": "1",
            "preprocessing": json.dumps({"size": 16, "mean": [0.5] * 3, "std": [0.5] * 3}),
        },
    )
    words = [
        f"members.0={{name: given, source: {{kind: checkpoint, path: {path}}}}}",
        "subclassifiers.base=given",
    ]
    done = command("run", tiny_config, *words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("runs/cache/resnet14_small-*.safetensors"))
