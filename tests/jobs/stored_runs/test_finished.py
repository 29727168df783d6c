"""A search reads the columns that the run has now, of the images that are there now."""

from pathlib import Path

import numpy as np
import pytest

from ensemble.errors import DataError, TableError
from ensemble.files import write_atomic
from ensemble.images.index import ImageIndex
from ensemble.images.sources import listed
from ensemble.storage.local_store import LocalStore
from ensemble.table.block import LogitBlock
from ensemble.table.imported import ImportedMember
from ensemble.table.logit_table import LogitTable
from jobs.settings import RunConfig
from jobs.stored_runs.columns import read_columns, write_columns
from jobs.stored_runs.finished import open_finished_run

CLASSES = ("ant", "bee", "cat")
IDS = np.array([f"i{n}" for n in range(12)])


def index_of(first: int) -> ImageIndex:
    """Twelve images, whose labels begin with a class of choice."""
    return ImageIndex("listed-1", IDS, (np.arange(12) + first) % 3, CLASSES)


def make_run(folder: Path, index: ImageIndex) -> None:
    config = RunConfig.model_validate(
        {
            "images": {
                "source": {"kind": "listed", "path": str(folder / "images.json")},
                "split": {"train": 0, "search": 6},
            },
            "members": [{"name": "m", "source": {"kind": "imported"}}],
        }
    )
    write_atomic(folder / "config.json", config.model_dump_json())
    write_atomic(folder / "images.json", listed.encode(index))


def commit(folder: Path, weights: str, index: ImageIndex, name: str = "m") -> str:
    """Commit a column of some weights, and tell its identity."""
    identity = {"classes": [0, 1, 2], "weights": weights, "data_sha256": index.sha256}
    member = ImportedMember(name, identity)
    rows = np.full((len(index), 3), np.log(1 / 3), np.float32)
    LogitTable(folder / "table").commit(
        member, LogitBlock(member.column, IDS, rows, bad=(), forward_passes=0, seconds=0.0)
    )
    return member.column


def test_images_that_changed_since_they_were_predicted_are_refused(tmp_path: Path) -> None:
    before, after = index_of(0), index_of(1)
    make_run(tmp_path, before)
    column = commit(tmp_path, "w", before)
    assert open_finished_run(tmp_path).columns[0].key == column
    write_atomic(tmp_path / "images.json", listed.encode(after))
    with pytest.raises(DataError, match=f"{before.sha256[:12]}.*{after.sha256[:12]}.*Put the data"):
        open_finished_run(tmp_path)
    write_atomic(tmp_path / "images.json", listed.encode(before))
    assert open_finished_run(tmp_path).columns[0].key == column


def test_predictions_of_images_that_were_put_back_count_again(tmp_path: Path) -> None:
    before, after = index_of(0), index_of(1)
    make_run(tmp_path, before)
    first, second = commit(tmp_path, "w", before), commit(tmp_path, "w", after)
    assert open_finished_run(tmp_path).columns[0].key == first
    write_atomic(tmp_path / "images.json", listed.encode(after))
    assert open_finished_run(tmp_path).columns[0].key == second


def test_the_column_that_was_recorded_last_counts_and_not_the_one_committed_last(
    tmp_path: Path,
) -> None:
    make_run(tmp_path, index_of(0))
    first = commit(tmp_path, "first weights", index_of(0))
    second = commit(tmp_path, "second weights", index_of(0))
    for column in (first, second, first):
        write_columns(LocalStore(tmp_path), {"m": column})
        assert open_finished_run(tmp_path).columns[0].key == column


def test_a_renamed_member_has_the_column_of_its_old_name(tmp_path: Path) -> None:
    make_run(tmp_path, index_of(0))
    column = commit(tmp_path, "w", index_of(0), name="old")
    write_columns(LocalStore(tmp_path), {"m": column})
    assert open_finished_run(tmp_path).columns[0].key == column


@pytest.mark.parametrize("content", ["", "[]", '{"version": 2}', '{"version": 1, "columns": 3}'])
def test_a_damaged_record_of_columns_is_one_message(tmp_path: Path, content: str) -> None:
    (tmp_path / "columns.json").write_text(content)
    with pytest.raises(TableError, match=r"columns\.json does not say which columns"):
        read_columns(LocalStore(tmp_path))
