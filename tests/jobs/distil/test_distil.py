"""`ensemble distil`: from a finished run to a network that learned its ensemble."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from ensemble import predictor
from ensemble.errors import ConfigError
from ensemble.images.open import open_source
from ensemble.images.settings import DigitsConfig
from jobs.distil.settings import left_out, load_student
from jobs.settings import RunConfig
from jobs.stored_runs.finished import open_finished_run
from jobs.verify import verify

from ..conftest import Command

RUN = {
    "name": "run",
    "images": {
        "source": {"kind": "digits"},
        "split": {"train": 200, "search": 120, "test": 200},
    },
    "recipes": {
        "default": {"epochs": 3, "batch_size": 32},
        "smooth": {"epochs": 3, "label_smoothing": 0.1, "mixup": 0.2, "colour": {"pca_sd": 0.1}},
    },
    "views": {"kind": "center"},
    "members": [
        {"name": "first", "source": {"kind": "recipe", "architecture": "resnet14_small"}},
        {"name": "second", "source": {"kind": "recipe", "architecture": "wide_resnet10_2"}},
    ],
    "search": {"kind": "uniform"},
    "cluster": {"hosts": 1},
}


def test_the_network_is_a_member_or_a_file_with_words_on_top(tmp_path: Path) -> None:
    config = RunConfig.model_validate(RUN)
    student = load_student(config, "first", ["recipe.epochs=7"])
    assert (student.architecture, student.recipe.epochs) == ("resnet14_small", 7)
    assert student.recipe.batch_size == 32
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump({"architecture": "alexnet_small", "recipe": {"epochs": 2}}))
    from_file = load_student(config, str(file), ["recipe.epochs=4"])
    assert (from_file.architecture, from_file.recipe.epochs) == ("alexnet_small", 4)
    assert left_out(config.recipes["smooth"]) == ("mixup", "label_smoothing", "colour.pca_sd")
    assert left_out(config.recipes["default"]) == ()


def test_a_network_that_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    config = RunConfig.model_validate(RUN)
    with pytest.raises(ConfigError, match="Did you mean 'first'"):
        load_student(config, "frist", [])
    file = tmp_path / "small.yaml"
    file.write_text("recipe: {epochs: 2}\n")
    with pytest.raises(ConfigError, match="set architecture"):
        load_student(config, str(file), [])
    with pytest.raises(ConfigError, match="epochz"):
        load_student(config, "first", ["recipe.epochz=2"])
    labels = f"{{path: {tmp_path}, sha256: {'a' * 64}}}"
    with pytest.raises(ConfigError, match="has soft_labels already"):
        load_student(config, "first", [f"recipe.soft_labels={labels}"])


def test_a_run_without_an_ensemble_has_nothing_to_teach(
    make_run: Callable[..., Path], command_here: Command
) -> None:
    result = command_here("distil", make_run(), "--into", "strong")
    assert result.returncode == 2
    assert "is no artifact and no run that has one" in result.stderr


@pytest.mark.ray
@pytest.mark.nightly
def test_a_run_is_distilled_and_the_network_answers_as_the_report_says(
    tmp_path: Path, command_here: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(RUN))
    assert command_here("run", "run.yaml").returncode == 0
    words = ("--into", "first", "recipe.epochs=6", "--views", "3", "--seeds", "2", "--compare")
    result = command_here("distil", "runs/run", *words)
    assert result.returncode == 0, result.stderr
    (folder,) = (tmp_path / "runs").glob("distil-*")
    report = json.loads((folder / "distil.json").read_text())
    assert [row["key"] for row in report["rows"]] == [
        "ensemble", "best", "distilled", "fixed", "labels",
    ]  # fmt: skip
    assert [row["n"] for row in report["rows"]] == [1, 1, 2, 2, 2]
    assert verify(folder / "ensemble").is_sound

    # The artifact is the first network; its answers are those that the report counts.
    test = open_finished_run(tmp_path / "runs" / "run").splits.test
    source = open_source(DigitsConfig())
    images = [source.decode(image_id) for image_id in test.image_ids.tolist()]
    student = predictor.load(folder / "ensemble", equal_bits=True).predict(images)
    teacher = predictor.load(tmp_path / "runs" / "run" / "ensemble", equal_bits=True)
    assert np.isclose(
        (teacher.predict(images).answers != test.labels).mean(), report["rows"][0]["error"]["mean"]
    )
    assert abs((student.answers != test.labels).mean() - report["rows"][2]["error"]["mean"]) < 0.2

    # What the ensemble answers to an unchanged view is what it answers to the image, to 8 bits of a pixel.
    stored = {
        len(np.load(path)): np.load(path) for path in tmp_path.glob("runs/soft-*/answers.npy")
    }
    train = [source.decode(str(i).rpartition("@")[0]) for i in _ids(tmp_path, 200)]
    expected = teacher.predict(train).probabilities
    assert np.abs(stored[200].astype(float) - expected).max() < 0.02

    # The same command computes nothing again, and another number of seeds keeps the soft labels.
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/soft-*/*.npy")}
    again = command_here("distil", "runs/run", *words)
    assert again.returncode == 0
    assert "train: 0/0 networks" in again.stderr + again.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before


def _ids(folder: Path, count: int) -> list[str]:
    """Ids of the stored views that are unchanged."""
    import pyarrow.parquet as pq

    tables = [pq.read_table(path) for path in folder.glob("runs/soft-*/views/*.parquet")]
    (ids,) = (table["id"].to_pylist() for table in tables if len(table) == count)
    return [str(one) for one in ids]
