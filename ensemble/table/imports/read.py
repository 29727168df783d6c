"""One file of predictions: its members, ids, labels and names of classes, and what in it is none of these."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from ensemble.errors import DataError
from ensemble.table.imported import ImportedPredictions
from ensemble.table.imports.arrays import check_is_file, read_arrays
from ensemble.table.imports.columns import (
    TOP_CLASS,
    TOP_SCORE,
    Column,
    Parts,
    assign_parts,
)
from ensemble.table.imports.contents import ImportedFile, ReadForm, dense, scores_in, top_of
from ensemble.table.imports.labels import Labels, parse_labels
from ensemble.table.imports.npz import read_archive
from ensemble.table.imports.tables import read_columns

_NUM_DESCRIBED = 4

SUFFIXES = (".npy", ".npz", ".csv", ".tsv", ".txt", ".parquet", ".pq")


def read_file(
    path: Path,
    form: ReadForm = "probabilities",
    array: str | None = None,
    class_names: Sequence[str] = (),
) -> ImportedFile:
    """Read a file of predictions.

    `.npy`: [image, class] of one member. `.npz`: an array [image, class] for each member; or `models`,
    and `classes` and `probabilities` [model, image, k], for the k best classes of many; or what
    `ensemble table export` wrote; beside them `image_ids` and `labels`. `.csv`, `.parquet`: a row for
    each image, with an id, and a column for each class or `class_1 … class_k`, `score_1 … score_k`.

    Args:
        path: The file.
        form: What the scores are.
        array: Name of the one array of an `.npz` that is taken; all of them if None.
        class_names: Known names of classes.

    Raises:
        DataError: The file cannot be read, or holds none of these.
    """
    check_is_file(path, "predictions")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"cannot read {path}; expected .npy, .npz, .csv, .tsv or .parquet.")
    if suffix in (".npy", ".npz"):
        arrays = read_arrays(path)
        if isinstance(arrays, np.ndarray):
            scores = scores_in(arrays, str(path))
            return ImportedFile(path, (dense(path.stem, scores, form),))
        return read_archive(path, arrays, form, array)
    return _from_columns(path, read_columns(path), form, class_names)


def _from_columns(
    path: Path, columns: Sequence[Column], form: ReadForm, class_names: Sequence[str]
) -> ImportedFile:
    parts = assign_parts(columns, class_names)
    ids = None if parts.ids is None else parts.ids.texts()
    labels = tuple(
        Labels(f"{path}: {c.name!r:.80}", parse_labels(c.values, f"{path}: {c.name!r:.80}"), ids)
        for c in parts.labels
    )
    tops = {m[1]: c for c in parts.scores if (m := TOP_CLASS.fullmatch(c.key))}
    scores = {m[1]: c for c in parts.scores if (m := TOP_SCORE.fullmatch(c.key))}
    places = sorted(tops.keys() & scores.keys(), key=int)
    if places:
        member = _top_columns(
            path, [tops[i] for i in places], [scores[i] for i in places], form, ids
        )
        used = [tops[i] for i in places] + [scores[i] for i in places]
    else:
        member, used = _dense_columns(path, columns, parts, form, ids)
    unused = [c for c in parts.scores if c not in used]
    ignored = (*parts.ignored, *(f"the column {column.name!r:.80}" for column in unused))
    return ImportedFile(path, (member,), labels, None, ignored)


def _top_columns(
    path: Path,
    tops: Sequence[Column],
    scores: Sequence[Column],
    form: ReadForm,
    ids: Shaped[np.ndarray, "image"] | None,
) -> ImportedPredictions:
    rows = [_numbers(path, column) for column in scores]
    classes = [column.whole_numbers() for column in tops]
    if any(column is None for column in classes):
        raise DataError(
            f"{path}: the columns {tops[0].name!r:.80} … do not hold whole numbers; expected the number of "
            "a class, from 0, and -1 for none."
        )
    values = np.array(classes, np.float64).T
    return top_of(path.stem, np.array(rows).T, values, form, ids, str(path))


def _dense_columns(
    path: Path,
    columns: Sequence[Column],
    parts: Parts,
    form: ReadForm,
    ids: Shaped[np.ndarray, "image"] | None,
) -> tuple[ImportedPredictions, list[Column]]:
    lists = [column for column in parts.scores if column.is_list]
    if lists:
        if len(lists) > 1:
            names = ", ".join(repr(column.name) for column in lists)
            raise DataError(f"{path} has lists of numbers in the columns {names}; expected one.")
        scores = scores_in(lists[0].values, f"{path}: {lists[0].name!r:.80}")
        return dense(path.stem, scores, form, ids), lists
    if not parts.scores:
        raise DataError(
            f"{path} has no column of scores, but {_describe(columns)}; expected a column for each class, "
            "with a number in each row."
        )
    used = _of_one_kind(parts.scores)
    scores = scores_in(
        np.array([_numbers(path, column) for column in used]).T, f"the scores of {path}"
    )
    is_named = all(column.is_named for column in used)
    outputs = tuple(column.name.strip() for column in used) if is_named else None
    return dense(path.stem, scores, form, ids, outputs), list(used)


def _describe(columns: Sequence[Column]) -> str:
    """Name the first columns, with the first cell of each."""
    cells = [f"{c.name!r:.80} with {str(c.values[0])!r:.80}" for c in columns[:_NUM_DESCRIBED]]
    more = len(columns) - _NUM_DESCRIBED
    return ", ".join(cells) + (f" and {more} more" if more > 0 else "")


def _of_one_kind(columns: Sequence[Column]) -> Sequence[Column]:
    """Leave out what is not numbered where the others are numbered from 0 or 1 without a gap."""
    numbered = [c for c in columns if c.name.strip().isdecimal()]
    values = sorted(int(c.name) for c in numbered)
    if len(values) > 1 and values in (
        list(range(len(values))),
        list(range(1, len(values) + 1)),
    ):
        return numbered
    return columns


def _numbers(path: Path, column: Column) -> Float[np.ndarray, "row"]:
    numbers = column.numbers()
    if numbers is None:
        raise DataError(
            f"{path}: the column {column.name!r:.80} does not hold numbers only. Mend it."
        )
    return numbers
