"""Predictions of others: in as files, out as a run that can be searched."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from ensemble.errors import ConfigError, DataError, EmptySplitError
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
    command_here: Command, tmp_path: Path, labels: np.ndarray
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
    done = command_here("table", "import", tmp_path / "run", tmp_path / "top2.npz")
    assert done.returncode == 0, done.stderr
    assert "3 members, 60 images, 4 classes imported" in done.stdout
    searched = command_here("search", tmp_path / "run", "k=1", "stability=0", "resamples=100")
    assert searched.returncode == 0, searched.stderr
    assert "3 columns" in command_here("table", "show", tmp_path / "run").stdout
    refused = command_here("resume", tmp_path / "run")
    assert refused.returncode == 2
    assert "the predictions of 'a' were imported: there is no network" in refused.stderr
    again = command_here("table", "import", tmp_path / "run", tmp_path / "top2.npz", "--seed", "1")
    assert again.returncode == 2
    assert "belongs to another config: seed is 0 there" in again.stderr
    assert "Import into another folder" in again.stderr


WRONG = {
    "sums over 1": (np.full((IMAGES, CLASSES), 0.5), "are not probabilities. If they are logits"),
    "percent": (np.full((IMAGES, CLASSES), 25.0), "They are percent; divide them by 100"),
    "bytes": (np.full((IMAGES, CLASSES), 64), "They are bytes, 255 for 1; divide them by 255"),
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


def test_columns_without_a_header_have_no_names(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("a,0.25,0.75\nb,0.5,0.5\n")
    (member,) = read_file(tmp_path / "m.csv").members
    assert member.outputs is None
    assert member.image_ids is not None
    assert member.image_ids.tolist() == ["a", "b"]
    np.testing.assert_array_equal(member.scores, [[0.25, 0.75], [0.5, 0.5]])


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
    with pytest.raises(
        DataError, match=r"it is not there\. .* of this machine; copy it here first"
    ):
        read_file(Path("s3://bucket/a.npy"))
    np.savez(tmp_path / "ids.npz", m=np.full((4, 2), 0.5), image_ids=np.arange(20).astype(str))
    with pytest.raises(DataError, match="m has 4 rows and 20 ids; expected an id for each row"):
        read_file(tmp_path / "ids.npz")
    np.savez(tmp_path / "flat.npz", x=np.ones(3))
    with pytest.raises(DataError, match=r"flat\.npz holds no array of \[image, class\]"):
        read_file(tmp_path / "flat.npz", "logits")
    (tmp_path / "text.csv").write_text('image_id,probs\na,"[0.5, 0.5]"\nb,"[0.9, 0.1]"\n')
    with pytest.raises(
        DataError,
        match=r"no column of scores, but 'image_id' with 'a', 'probs' with '\[0\.5, 0\.5\]'",
    ):
        read_file(tmp_path / "text.csv")
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


def errors(folder: Path) -> dict[str, int]:
    """Count the wrong answers of every member on all images of a run."""
    run = open_finished_run(folder)
    ids = np.concatenate([run.splits.search.image_ids, run.splits.test.image_ids])
    truth = np.concatenate([run.splits.search.labels, run.splits.test.labels])
    return {
        c.member: int((run.table.read(c.key, ids).argmax(axis=1) != truth).sum())
        for c in run.columns
    }


def with_errors(labels: np.ndarray, wrong: int) -> np.ndarray:
    """Predict with some confidence, and wrongly for the first few images."""
    answers = labels.copy()
    answers[:wrong] = (answers[:wrong] + 1) % CLASSES
    scores = np.random.default_rng(wrong).uniform(0.02, 0.08, size=(len(labels), CLASSES))
    scores[np.arange(len(labels)), answers] = 0.8
    return np.asarray(scores / scores.sum(axis=1, keepdims=True))


def test_files_that_each_have_their_own_order_are_joined_by_their_ids(
    tmp_path: Path, labels: np.ndarray
) -> None:
    ids = np.array([f"i{n}" for n in range(IMAGES)])
    for number, (name, wrong) in enumerate({"a": 0, "b": 7}.items()):
        order = np.random.default_rng(number).permutation(IMAGES)
        arrays = {name: with_errors(labels, wrong)[order], "image_ids": ids[order]}
        np.savez(tmp_path / f"{name}.npz", labels=labels[order], **arrays)
    done = import_table(tmp_path / "run", ImportSettings([tmp_path / "a.npz", tmp_path / "b.npz"]))
    assert errors(tmp_path / "run") == {"a": 0, "b": 7}
    assert "60 images joined by image id" in done.lines
    shuffled = saved(tmp_path / "l.npy", np.roll(labels, 1))
    with pytest.raises(DataError, match="no image ids, and those of a and b are not in one order"):
        import_table(
            tmp_path / "s", ImportSettings([tmp_path / "a.npz", tmp_path / "b.npz"], shuffled)
        )


def test_the_file_that_was_imported_last_counts(tmp_path: Path, labels: np.ndarray) -> None:
    of_labels = saved(tmp_path / "l.npy", labels)
    for wrong in (7, 0, 7):
        settings = ImportSettings(
            [saved(tmp_path / "m.npy", with_errors(labels, wrong))], of_labels
        )
        import_table(tmp_path / "run", settings)
        assert errors(tmp_path / "run") == {"m": wrong}


def test_padding_of_the_best_classes_is_no_class(tmp_path: Path, labels: np.ndarray) -> None:
    scores = with_errors(labels, 7)
    top = np.argsort(-scores, axis=1)[:, :2]
    best = np.take_along_axis(scores, top, axis=1)
    top[:, 1], best[:, 1] = -1, 0
    np.savez(tmp_path / "m.npz", classes=top, probabilities=best, labels=labels)
    import_table(tmp_path / "run", ImportSettings([tmp_path / "m.npz"]))
    assert errors(tmp_path / "run") == {"m": 7}
    run = open_finished_run(tmp_path / "run")
    row = np.sort(np.exp(run.table.read(run.columns[0].key, ["00000000"])[0]))
    np.testing.assert_allclose(row, [(1 - best[0, 0]) / 3] * 3 + [best[0, 0]], rtol=1e-5)
    top[:, 1], best[:, 1] = top[:, 0], 0.01
    np.savez(tmp_path / "m.npz", classes=top, probabilities=best, labels=labels)
    with pytest.raises(DataError, match="60 of 60 rows name a class twice"):
        import_table(tmp_path / "twice", ImportSettings([tmp_path / "m.npz"]))


def test_probabilities_that_are_said_to_be_logits_are_told(
    command_here: Command, tmp_path: Path, labels: np.ndarray
) -> None:
    probabilities = with_errors(labels, 7)
    files = [
        saved(tmp_path / "p.npy", probabilities),
        saved(tmp_path / "l.npy", np.log(probabilities) + 9),
    ]
    words = [
        "table",
        "import",
        tmp_path / "run",
        *files,
        "--labels",
        saved(tmp_path / "y.npy", labels),
    ]
    refused = command_here(*words, "--form", "logits")
    assert refused.returncode == 1
    assert "p: every row is a distribution already" in refused.stderr
    assert command_here(*words, "--form", "auto").returncode == 0
    run = open_finished_run(tmp_path / "run")
    first, second = (run.table.read(c.key, run.splits.test.image_ids) for c in run.columns)
    np.testing.assert_allclose(first, second, rtol=1e-4)


def test_what_is_no_prediction_is_ignored_and_said_or_refused(
    tmp_path: Path, labels: np.ndarray
) -> None:
    rng = np.random.default_rng(0)
    logits = np.log(with_errors(labels, 7))
    truth = np.eye(CLASSES)[labels]
    np.savez(tmp_path / "a.npz", m=logits, t=truth, features=logits, labels=labels, note="x")
    done = import_table(tmp_path / "a", ImportSettings([tmp_path / "a.npz"], form="auto"))
    assert errors(tmp_path / "a") == {"m": 7}
    for ignored in (
        "the array 'features' [60, 4]",
        "the array 'note' []",
        "'t', which is the labels",
    ):
        assert any(ignored in note for note in done.notes)
    np.savez(tmp_path / "b.npz", m=logits, h=rng.normal(size=logits.shape), labels=labels)
    with pytest.raises(DataError, match=r"h is at chance.* each as .*b\.npz:ARRAY"):
        import_table(tmp_path / "b", ImportSettings([tmp_path / "b.npz"], form="logits"))
    import_table(tmp_path / "b", ImportSettings([f"{tmp_path}/b.npz:m"], form="logits"))
    assert errors(tmp_path / "b") == {"m": 7}
    alone = ImportSettings([saved(tmp_path / "t.npy", truth)], saved(tmp_path / "l.npy", labels))
    with pytest.raises(DataError, match="'t' is no prediction but the labels"):
        import_table(tmp_path / "t", alone)


def test_classes_that_are_rare_or_absent_are_imported_with_a_note(
    command_here: Command, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 1000, 900)
    scores = rng.dirichlet(np.full(1000, 0.1), 900)
    scores[np.arange(900), labels] += 0.5
    saved(tmp_path / "m.npy", scores / scores.sum(axis=1, keepdims=True))
    of_labels = saved(tmp_path / "l.npy", labels)
    done = command_here(
        "table", "import", tmp_path / "run", tmp_path / "m.npy", "--labels", of_labels
    )
    assert done.returncode == 0, done.stderr
    assert "of 1000 classes have no image in the search or the test split" in done.stdout
    searched = command_here("search", tmp_path / "run", "k=1", "stability=0", "resamples=100")
    assert searched.returncode == 0, searched.stderr
    with pytest.raises(EmptySplitError, match="there is 1 labelled image; expected at least 2"):
        import_table(
            tmp_path / "one",
            ImportSettings(
                [saved(tmp_path / "n.npy", scores[:1] / scores[:1].sum())],
                saved(tmp_path / "k.npy", labels[:1]),
            ),
        )


def test_what_was_read_joined_and_ignored_is_printed_and_kept(
    command_here: Command, tmp_path: Path, labels: np.ndarray
) -> None:
    scores = with_errors(labels, 7)
    lines = ["image_id,class_3,class_1,class_0,class_2,fold"]
    lines += [
        ",".join([f"i{n}", *map(str, row[[3, 1, 0, 2]]), "1"]) for n, row in enumerate(scores)
    ]
    (tmp_path / "m.csv").write_text("\n".join([*lines, f"i99,{','.join('1000')},1"]))
    rows = [f"i{n},{label}" for n, label in enumerate(labels)]
    (tmp_path / "labels.csv").write_text("\n".join(["image_id,label", *rows]))
    done = command_here(
        "table", "import", "run", "one=m.csv", "--labels", "labels.csv", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert errors(tmp_path / "run") == {"one": 7}
    record = json.loads((tmp_path / "run" / "import.json").read_text())
    assert record["lines"] == [
        "m.csv: 61 rows of 'one'",
        "labels: labels.csv",
        "60 images joined by image id",
        "4 classes: '0', '1', '2', '3'",
    ]
    assert record["notes"] == [
        "m.csv: ignored the column 'fold'",
        "one: outputs were matched with classes by their names",
        "one: ignored 1 rows of images without a label, as 'i99'",
    ]
    assert record["class_maps"] == {"one": [3, 1, 0, 2]}
    for line in record["lines"] + [f"note: {note}" for note in record["notes"]]:
        assert line in done.stdout.splitlines()


@pytest.mark.parametrize("share", [0, 1, -1, float("nan")])
def test_a_share_that_is_none_is_refused(tmp_path: Path, share: float) -> None:
    with pytest.raises(ConfigError, match="expected a share between 0 and 1"):
        import_table(tmp_path / "run", ImportSettings(["m.npy"], search=share))


def test_the_folder_may_have_any_name(tmp_path: Path, labels: np.ndarray) -> None:
    saved(tmp_path / "m.npy", with_errors(labels, 7))
    settings = ImportSettings([tmp_path / "m.npy"], saved(tmp_path / "l.npy", labels))
    for name in ("my résumé (1)", "plain"):
        import_table(tmp_path / name, settings)
        assert errors(tmp_path / name) == {"m": 7}
    with pytest.raises(ConfigError, match="is a file; expected a folder"):
        import_table(tmp_path / "m.npy", settings)
