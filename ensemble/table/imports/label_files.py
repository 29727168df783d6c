"""Files of labels: arrays, JSON, CSV and Parquet, by row or by image id."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from ensemble.errors import ConfigError, DataError
from ensemble.table.imports.arrays import check_is_file, read_arrays
from ensemble.table.imports.columns import (
    ID_NAMES,
    LABEL_NAMES,
    Column,
    assign_parts,
    ids_in,
    list_names,
)
from ensemble.table.imports.labels import Labels, number_in, parse_labels
from ensemble.table.imports.tables import read_columns, read_json

_TABLES = (".csv", ".tsv", ".txt", ".parquet", ".pq")


def read_labels(path: Path) -> Labels:
    """Read a file of labels: `.npy`, `.npz`, `.json`, `.csv` or `.parquet`.

    Raises:
        DataError: The file cannot be read, or holds no labels.
    """
    check_is_file(path, "labels")
    suffix = path.suffix.lower()
    if suffix in _TABLES:
        return _from_columns(path, read_columns(path))
    if suffix == ".json":
        return _from_json(path)
    if suffix in (".npy", ".npz"):
        arrays = read_arrays(path)
        if isinstance(arrays, np.ndarray):
            return Labels(str(path), parse_labels(arrays, f"the labels of {path}"))
        return _from_arrays(path, arrays)
    raise DataError(
        f"cannot read labels from {path}; expected .npy, .npz, .json, .csv, .tsv, .txt or .parquet."
    )


def _from_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> Labels:
    ids = next((name for name in arrays if name.lower() in ID_NAMES), None)
    label_names = [name for name in arrays if name != ids]
    named = [name for name in label_names if name.lower() in LABEL_NAMES] or label_names
    if len(named) != 1:
        raise DataError(
            f"{path} holds the arrays {list_names(list(arrays))}; expected one of labels. Call it "
            "labels."
        )
    values = parse_labels(arrays[named[0]], f"the labels {named[0]!r:.80} of {path}")
    ignored = [f"the array {name!r:.80}" for name in arrays if name not in (ids, named[0])]
    image_ids = None if ids is None else ids_in(arrays[ids], f"the ids {ids!r:.80} of {path}")
    return Labels(str(path), values, image_ids, tuple(ignored))


def _from_columns(path: Path, columns: Sequence[Column]) -> Labels:
    columns = _with_first_row(columns)
    parts = assign_parts(columns)
    ids = parts.ids
    rest = [c for c in columns if c not in (ids, *parts.labels)]
    labels = list(parts.labels)
    if not labels and not rest and ids is not None:
        labels, ids = [ids], None
    elif not labels and len(rest) == 1:
        labels, rest = rest, []
    if not labels:
        names = list_names([column.name for column in columns])
        raise DataError(
            f"cannot read labels from {path}: it has the columns {names}. Expected columns image_id and "
            "label; rename them."
        )
    values = [parse_labels(c.values, f"the labels {c.name!r:.80} of {path}") for c in labels]
    for column, other in zip(labels[1:], values[1:], strict=True):
        if not np.array_equal(other, values[0]):
            raise DataError(
                f"{path}: the columns {labels[0].name!r:.80} and {column.name!r:.80} hold different labels. Remove "
                "or rename one."
            )
    ignored = tuple(f"the column {c.name!r:.80}" for c in rest)
    return Labels(str(path), values[0], None if ids is None else ids.texts(), ignored)


def _with_first_row(columns: Sequence[Column]) -> Sequence[Column]:
    """Take a first row for a label, and not for a header, where its last cell is a number or some label."""
    last = columns[-1]
    is_numbered = [c.name for c in columns] == list(map(str, range(len(columns)))) and len(
        columns
    ) > 1
    is_label = number_in(last.name) is not None or (
        last.key not in LABEL_NAMES and last.values.dtype.kind == "U" and last.name in last.values
    )
    if len(columns) > 2 or is_numbered or not is_label:
        return columns
    return [
        Column(str(number), np.array([column.name, *column.texts().tolist()], np.str_))
        for number, column in enumerate(columns)
    ]


def _from_json(path: Path) -> Labels:
    value = read_json(path, "a JSON list of labels, or labels by image id")
    where = f"the labels of {path}"
    if isinstance(value, dict):
        return Labels(str(path), _from_list(list(value.values()), where), np.array(list(value)))
    if not isinstance(value, list):
        raise ConfigError(f"{path} holds {type(value).__name__}; expected a JSON list of labels.")
    if value and all(isinstance(row, dict) for row in value):
        keys = list(value[0])
        if any(list(row) != keys for row in value):
            raise DataError(f"{where}: its objects have other keys than the first, {keys}.")
        columns = [Column(key, _plain([row[key] for row in value], where)) for key in keys]
        return _from_columns(path, columns)
    return Labels(str(path), _from_list(value, where))


def _from_list(values: list[Any], where: str) -> Shaped[np.ndarray, "image"]:
    return parse_labels(_plain(values, where), where)


def _plain(values: list[Any], where: str) -> np.ndarray:
    kinds = {type(value) for value in values}
    is_plain = kinds <= {int, float, bool} or kinds == {str} or kinds == {list}
    if not is_plain:
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise DataError(f"{where} are of the types {names}; expected whole numbers, or all text.")
    try:
        array = np.array(values)
    except (ValueError, OverflowError, RecursionError) as error:
        raise DataError(f"{where} are not rows of one length ({error}). Mend them.") from error
    return array
