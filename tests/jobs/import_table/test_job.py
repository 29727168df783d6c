"""Predictions of others: in as files, out as a run that can be searched."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from ensemble.errors import ConfigError, DataError
from ensemble.images.settings import ListedConfig
from ensemble.images.sources.listed import open_source
from ensemble.table.imported import ImportedPredictions, log_probabilities
from ensemble.table.imports.read import read_file
from jobs.import_table.job import ImportSettings, import_table
from jobs.stored_runs.finished import open_finished_run

from ..conftest import Command

IMAGES, CLASSES = 60, 4


@pytest.fixture
def labels() -> np.ndarray:
    return np.arange(IMAGES) % CLASSES


@pytest.fixture
def logits(labels: np.ndarray) -> np.ndarray:
    scores = np.random.default_rng(0).normal(size=(IMAGES, CLASSES))
    scores[np.arange(IMAGES), labels] += 1
    return scores


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores)
    return powers / powers.sum(axis=1, keepdims=True)


def saved(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


def imported(folder: Path, settings: ImportSettings) -> np.ndarray:
    """Import, and read everything back in the order of the index."""
    index = import_table(folder, settings).index
    run = open_finished_run(folder)
    return np.exp(run.table.read(run.columns[0].key, index.image_ids))


def test_logits_and_probabilities_of_any_file_are_one_and_the_same(
    tmp_path: Path, logits: np.ndarray, labels: np.ndarray
) -> None:
    expected = softmax(logits)
    ids = [f"i{n}" for n in range(IMAGES)]
    named = {"image_id": ids} | {f"c{c}": expected[:, c].tolist() for c in range(CLASSES)}
    parquet.write_table(pa.table(named), tmp_path / "a.parquet")
    with (tmp_path / "b.csv").open("w") as file:
        csv.writer(file).writerows([list(named), *zip(*named.values(), strict=True)])
    np.savez(tmp_path / "c.npz", member=expected, labels=labels)
    of_labels = saved(tmp_path / "labels.npy", labels)
    files = [
        ImportSettings([saved(tmp_path / "d.npy", logits)], of_labels, "logits"),
        ImportSettings([tmp_path / "a.parquet"], of_labels),
        ImportSettings([tmp_path / "b.csv"], of_labels),
        ImportSettings([tmp_path / "c.npz"]),
    ]
    for number, settings in enumerate(files):
        found = imported(tmp_path / f"run{number}", settings)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_top_k_spreads_what_is_missing_and_nothing_passes_the_kth() -> None:
    predictions = ImportedPredictions(
        "m",
        np.array([[0.6, 0.3], [0.4, 0.01]]),
        "probabilities",
        np.array([[2, 0], [1, 3]]),
    )
    found = np.exp(log_probabilities(predictions, slice(None), 4, [0, 1, 2, 3]))
    np.testing.assert_allclose(found[0], [0.3, 0.05, 0.6, 0.05], rtol=1e-6)
    np.testing.assert_allclose(found[1], [0.01, 0.4, 0.01, 0.01], rtol=1e-6)


def test_class_map_moves_outputs_and_drops_those_that_are_not_ours() -> None:
    dense = ImportedPredictions("m", np.array([[0.5, 0.2, 0.3]]), "probabilities")
    found = np.exp(log_probabilities(dense, slice(None), 2, [None, 1, 0]))
    np.testing.assert_allclose(found, [[0.6, 0.4]], rtol=1e-6)
    top = ImportedPredictions("m", np.array([[0.5, 0.2]]), "probabilities", np.array([[0, 2]]))
    found = np.exp(log_probabilities(top, slice(None), 3, [None, 0, 1, 2]))
    np.testing.assert_allclose(found, [[0.2, 0.2, 0.2]], rtol=1e-6)


def test_labels_by_id_join_predictions_in_another_order(
    tmp_path: Path, logits: np.ndarray, labels: np.ndarray
) -> None:
    expected = softmax(logits)
    order = np.random.default_rng(1).permutation(IMAGES)
    columns = {f"c{c}": expected[order, c].tolist() for c in range(CLASSES)}
    named = {"image_id": [f"i{n}" for n in order]} | columns
    parquet.write_table(pa.table(named), tmp_path / "a.parquet")
    rows = "".join(f"i{n},{label}\n" for n, label in enumerate(labels))
    (tmp_path / "labels.csv").write_text("image_id,label\n" + rows)
    settings = ImportSettings([tmp_path / "a.parquet"], tmp_path / "labels.csv")
    np.testing.assert_allclose(imported(tmp_path / "run", settings), expected, rtol=1e-5)


def test_search_works_on_an_imported_table_and_run_says_that_it_cannot(
    command: Command, tmp_path: Path, labels: np.ndarray
) -> None:
    rng = np.random.default_rng(2)
    pools = {}
    for name in ("a", "b", "c"):
        scores = rng.normal(size=(IMAGES, CLASSES))
        scores[np.arange(IMAGES), labels] += 1.5
        pools[name] = softmax(scores)
    top = {name: np.argsort(-p, axis=1)[:, :2] for name, p in pools.items()}
    np.savez(
        tmp_path / "top2.npz",
        models=np.array(list(pools)),
        classes=np.array([*top.values()]),
        probabilities=np.array([np.take_along_axis(p, top[n], 1) for n, p in pools.items()]),
        labels=labels,
    )
    done = command("table", "import", tmp_path / "run", tmp_path / "top2.npz")
    assert done.returncode == 0, done.stderr
    assert "3 members, 60 images, 4 classes imported" in done.stdout
    searched = command("search", tmp_path / "run", "k=1", "stability=0", "resamples=100")
    assert searched.returncode == 0, searched.stderr
    assert "3 columns" in command("table", "show", tmp_path / "run").stdout
    refused = command("resume", tmp_path / "run")
    assert refused.returncode == 2
    assert "the predictions of 'a' were imported: there is no network" in refused.stderr
    again = command("table", "import", tmp_path / "run", tmp_path / "top2.npz", "--seed", "1")
    assert (again.returncode, "belongs to another config: seed is 0 there" in again.stderr) == (
        2,
        True,
    )


WRONG = {
    "sums over 1": (np.full((IMAGES, CLASSES), 0.5), "are not probabilities. If they are logits"),
    "sums under 1": (np.full((IMAGES, CLASSES), 0.1), "sum to 0.4 only; expected 1"),
    "no numbers": (np.full((IMAGES, CLASSES), np.nan), "some scores are not finite"),
    "another number of images": (
        np.full((7, CLASSES), 0.25),
        "m has 7 rows, and .*l.npy has 60; expected as many images",
    ),
}


@pytest.mark.parametrize(("scores", "message"), WRONG.values(), ids=WRONG.keys())
def test_predictions_that_cannot_be_right_are_refused(
    tmp_path: Path, labels: np.ndarray, scores: np.ndarray, message: str
) -> None:
    files = [saved(tmp_path / "m.npy", scores)]
    with pytest.raises(DataError, match=message):
        import_table(tmp_path / "run", ImportSettings(files, saved(tmp_path / "l.npy", labels)))


def test_logits_of_the_best_classes_only_are_refused() -> None:
    with pytest.raises(DataError, match="m: logits of the best classes alone do not say"):
        ImportedPredictions("m", np.ones((1, 2)), "logits", np.array([[0, 1]]))


def test_files_that_hold_something_else_are_refused(tmp_path: Path, labels: np.ndarray) -> None:
    (tmp_path / "x.pkl").write_text("x")
    with pytest.raises(
        DataError, match=r"x\.pkl; expected \.npy, \.npz, \.csv, \.tsv or \.parquet"
    ):
        read_file(tmp_path / "x.pkl", "logits")
    with pytest.raises(DataError, match=r"cannot read predictions from .*none\.npy"):
        read_file(tmp_path / "none.npy", "logits")
    np.savez(tmp_path / "flat.npz", x=np.ones(3))
    with pytest.raises(DataError, match=r"flat\.npz holds no array of \[image, class\]"):
        read_file(tmp_path / "flat.npz", "logits")
    dense = [saved(tmp_path / "m.npy", np.full((IMAGES, CLASSES), 0.25))]
    with pytest.raises(ConfigError, match="there are no labels in the files; expected --labels"):
        import_table(tmp_path / "run", ImportSettings(dense))
    (tmp_path / "map.json").write_text("[0, 0, 1, 2]")
    of_labels = saved(tmp_path / "l.npy", labels)
    with pytest.raises(
        ConfigError, match=r"map\.json' must list, for each output, one of the classes"
    ):
        import_table(
            tmp_path / "run", ImportSettings(dense, of_labels, class_map=tmp_path / "map.json")
        )


def test_damaged_list_of_images_is_refused(
    tmp_path: Path, logits: np.ndarray, labels: np.ndarray
) -> None:
    files = [saved(tmp_path / "m.npy", softmax(logits))]
    import_table(tmp_path / "run", ImportSettings(files, saved(tmp_path / "l.npy", labels)))
    path = tmp_path / "run" / "images.json"
    document = json.loads(path.read_text())
    document["labels"][0] = 3
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match="is damaged: its sha256 is not its own"):
        open_source(ListedConfig(path=path)).index()
    path.write_text("{}")
    with pytest.raises(DataError, match="is not a list of images"):
        open_source(ListedConfig(path=path)).index()
    path.unlink()
    with pytest.raises(ConfigError, match="cannot read the list of images"):
        open_source(ListedConfig(path=path)).index()
