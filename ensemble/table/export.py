"""A table as one file for other tools: a Parquet file, or NumPy arrays."""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ensemble.errors import TableError
from ensemble.files import partial_file, publish
from ensemble.images.index import ImageIndex
from ensemble.table.log_entry import Commit
from ensemble.table.logit_table import LogitTable

# Logits are noise: dictionaries and statistics only cost time.
_PARQUET = {"compression": "zstd", "use_dictionary": False, "write_statistics": False}


def export_table(table: LogitTable, path: Path, kind: str, index: ImageIndex | None = None) -> int:
    """Write every row of a table; the file appears complete, or not at all.

    Args:
        table: Read a shard at a time.
        path: The file, in a folder that is there.
        kind: A key of `FORMATS`.
        index: Images whose labels and classes an .npz gets; none if they are not known.

    Returns:
        Number of rows.

    Raises:
        TableError: The file cannot be written, or the table is damaged.
    """
    try:
        with partial_file(path.parent) as file:
            rows = FORMATS[kind](table, file, index)
            publish(file, path)
    except OSError as error:
        raise TableError(
            f"cannot write {path}: {error.strerror or error}. Expected a file in a folder that can be written."
        ) from error
    return rows


def _write_parquet(table: LogitTable, file: BinaryIO, _: ImageIndex | None) -> int:
    writer, rows = None, 0
    try:
        for commit in _distinct(table):
            logs = table.read(commit.column, commit.image_ids)
            values = pa.array(logs.reshape(-1))
            batch = pa.table(
                {
                    "member": pa.array([commit.name] * commit.rows).dictionary_encode(),
                    "column": pa.array([commit.column] * commit.rows).dictionary_encode(),
                    "image_id": pa.array(commit.image_ids, pa.string()),
                    # Tables with members of other classes (sub-classifiers) need lists of any length.
                    "log_probabilities": pa.ListArray.from_arrays(
                        np.arange(commit.rows + 1, dtype=np.int32) * commit.classes, values
                    ),
                }
            )
            writer = writer or pq.ParquetWriter(file, batch.schema, **_PARQUET)
            writer.write_table(batch)
            rows += commit.rows
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        raise TableError(f"the table {table.root} has no rows to export. Run the job first.")
    return rows


def _write_npz(table: LogitTable, file: BinaryIO, index: ImageIndex | None) -> int:
    arrays: dict[str, np.ndarray] = {}
    columns: dict[str, list[Commit]] = {}
    for commit in _distinct(table):
        columns.setdefault(commit.column, []).append(commit)
    for key, commits in columns.items():
        ids = [image_id for commit in commits for image_id in commit.image_ids]
        name = f"{commits[-1].name}.{key}"
        arrays[f"{name}.image_ids"] = np.array(ids)
        arrays[f"{name}.log_probabilities"] = table.read(key, ids)
    if not arrays:
        raise TableError(f"the table {table.root} has no rows to export. Run the job first.")
    rows = sum(len(ids) for name, ids in arrays.items() if name.endswith(".image_ids"))
    if index is not None:
        arrays["image_ids"], arrays["labels"] = index.image_ids.astype(np.str_), index.labels
        arrays["classes"] = np.array(index.classes, np.str_)
    np.savez(file, allow_pickle=False, **arrays)
    return rows


def _distinct(table: LogitTable) -> list[Commit]:
    return [commit for commit in table.commits() if commit.rows]


FORMATS: dict[str, Callable[[LogitTable, BinaryIO, ImageIndex | None], int]] = {
    "npz": _write_npz,
    "parquet": _write_parquet,
}
