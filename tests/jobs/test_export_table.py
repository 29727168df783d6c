"""An export is of the kind that its name says, and an import reads back what was exported."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from ensemble.errors import ConfigError, TableError, UnknownNameError
from jobs.export_table import export
from jobs.import_table.job import ImportSettings, import_table
from jobs.stored_runs.finished import open_finished_run

CLASSES = ("ant", "bee", "cat", "dog", "eel", "fox")


def make_run(folder: Path, images: int, classes: int, members: int, seed: int = 0) -> Path:
    """Import predictions of random classes for images whose ids are not in order."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    arrays = {
        f"m{number}": rng.dirichlet(np.full(classes, 0.2), images).astype(np.float32)
        for number in range(members)
    }
    ids = np.array([f"img {number}.png" for number in rng.permutation(images)])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classes.json").write_text(json.dumps(CLASSES[:classes]))
    np.savez(folder / "predictions.npz", image_ids=ids, labels=labels, **arrays)
    import_table(
        folder / "run",
        ImportSettings([folder / "predictions.npz"], classes=folder / "classes.json"),
    )
    return folder / "run"


def rows_of(run_folder: Path) -> dict[str, dict[str, np.ndarray]]:
    run = open_finished_run(run_folder)
    parts = (run.splits.search, run.splits.test)
    ids = [i for part in parts for i in part.image_ids.tolist()]
    names = [part.classes[label] for part in parts for label in part.labels]
    rows = {c.member: dict(zip(ids, run.table.read(c.key, ids), strict=True)) for c in run.columns}
    return rows | {"labels": {i: np.array(name) for i, name in zip(ids, names, strict=True)}}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(4, 40), st.integers(2, 6), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_an_exported_npz_is_imported_as_the_same_table(
    tmp_path_factory: pytest.TempPathFactory, images: int, classes: int, members: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("round")
    run = make_run(folder, images, classes, members, seed)
    done = export(str(run), folder / "x.npz", [])
    assert (done.rows, done.note) == (images * members, "")
    import_table(folder / "again", ImportSettings([folder / "x.npz"]))
    before, after = rows_of(run), rows_of(folder / "again")
    assert before.keys() == after.keys()
    for name, rows in before.items():
        assert rows.keys() == after[name].keys()
        for image_id, row in rows.items():
            if name == "labels":
                assert row == after[name][image_id]
            else:
                np.testing.assert_allclose(after[name][image_id], row, rtol=2e-5, atol=2e-5)


def test_the_name_says_the_format(tmp_path: Path) -> None:
    run = make_run(tmp_path, 8, 3, 1)
    export(str(run), tmp_path / "x.parquet", [])
    assert len(parquet.read_table(tmp_path / "x.parquet")) == 8
    export(str(run), tmp_path / "y.NPZ", [])
    assert np.load(tmp_path / "y.NPZ")["labels"].shape == (8,)
    export(str(run), tmp_path / "z.bin", [], "npz")
    assert np.load(tmp_path / "z.bin")["classes"].tolist() == ["ant", "bee", "cat"]
    with pytest.raises(
        ConfigError, match=r"'.*z\.bin' does not say its format; .* say --format npz"
    ):
        export(str(run), tmp_path / "z.bin", [])
    with pytest.raises(
        ConfigError, match=r"--format parquet contradicts .*call the file '.*parquet'"
    ):
        export(str(run), tmp_path / "x.npz", [], "parquet")
    with pytest.raises(UnknownNameError, match="no format 'csv'"):
        export(str(run), tmp_path / "x.csv", [], "csv")


def test_where_nothing_can_be_written_is_one_message(tmp_path: Path) -> None:
    run = make_run(tmp_path, 8, 3, 1)
    (tmp_path / "file").touch()
    (tmp_path / "folder.npz").mkdir()
    for out in ("nowhere/x.npz", "file/x.npz", "folder.npz", f"{'x' * 300}.npz"):
        with pytest.raises(TableError, match=r"cannot write .*Expected a file in a folder"):
            export(str(run), tmp_path / out, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "classes.json",
        "file",
        "folder.npz",
        "predictions.npz",
        "run",
    ]


def test_what_has_no_labels_is_said(tmp_path: Path) -> None:
    run = make_run(tmp_path, 8, 3, 1)
    alone = export(str(run / "table"), tmp_path / "a.npz", [])
    assert "without labels: this is a table alone" in alone.note
    assert "labels" not in np.load(tmp_path / "a.npz")
    (run / "images.json").unlink()
    gone = export(str(run), tmp_path / "b.npz", [])
    assert "without labels: cannot read the list of images" in gone.note
    other = make_run(tmp_path / "other", 8, 3, 1, seed=5)
    (run / "images.json").write_bytes((other / "images.json").read_bytes())
    changed = export(str(run), tmp_path / "c.npz", [])
    assert "without labels: the images have changed" in changed.note
