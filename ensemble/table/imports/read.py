"""One file of predictions: its members, ids, labels and names of classes, and what in it is none of these."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Shaped

from ensemble.errors import DataError
from ensemble.table.imported import Form, ImportedPredictions, is_distribution
from ensemble.table.imports.arrays import check_is_file, read_arrays
from ensemble.table.imports.columns import (
    ID_NAMES,
    LABEL_NAMES,
    TOP_CLASS,
    TOP_SCORE,
    Column,
    Parts,
    assign_parts,
    list_names,
    read_columns,
    words,
)
from ensemble.table.imports.labels import Labels, parse_labels

# How predictions are to be read: `auto` takes rows that are distributions for probabilities.
ReadForm = Literal["logits", "probabilities", "auto"]

SUFFIXES = (".npy", ".npz", ".csv", ".tsv", ".txt", ".parquet", ".pq")

_CLASS_NAMES = frozenset(words("classes classes_ class_names classnames target_names categories"))
_FEATURE_NAMES = frozenset(
    words(
        """feature features feat feats embedding embeddings emb embs hidden latent latents penultimate
        pooled x inputs input images pixels"""
    )
)
# What `ensemble table export` calls the two arrays of a column.
_EXPORTED_IDS, _EXPORTED_LOGS = ".image_ids", ".log_probabilities"
_DEFAULT_NAME = re.compile(r"arr_\d+")


@dataclass(frozen=True)
class ImportedFile:
    """What a file of predictions says.

    Attributes:
        path: The file.
        members: The predictions, each with its ids if the file has some.
        labels: Labels that stand in the file.
        classes: Names of all classes, in order, where the file lists them.
        ignored: What else the file holds, in words.
        is_unspecified: Whether all arrays of a fitting shape, and more than one, were taken for members.
    """

    path: Path
    members: tuple[ImportedPredictions, ...]
    labels: tuple[Labels, ...] = ()
    classes: tuple[str, ...] | None = None
    ignored: tuple[str, ...] = ()
    is_unspecified: bool = False


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
            scores = _scores(arrays, str(path))
            return ImportedFile(path, (_dense(path.stem, scores, form),))
        return _from_arrays(path, arrays, form, array)
    return _from_columns(path, read_columns(path), form, class_names)


def _scores(array: np.ndarray, where: str) -> Float[np.ndarray, "image score"]:
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise DataError(
            f"{where} is of shape {list(array.shape)} and type {array.dtype}; expected numbers "
            "[image, class], a row for each image and a column for each class."
        )
    if array.shape[1] == 1:
        raise DataError(
            f"{where} has one column; expected one for each class. If it is the probability p of the "
            "second of two classes, save the columns 1-p and p."
        )
    return array.astype(np.float32 if array.dtype in (np.float16, np.float32) else np.float64)


def _dense(
    name: str,
    scores: Float[np.ndarray, "image score"],
    form: ReadForm,
    ids: Shaped[np.ndarray, "image"] | None = None,
    outputs: tuple[str, ...] | None = None,
) -> ImportedPredictions:
    if form == "auto":
        form = "probabilities" if is_distribution(scores).all() else "logits"
    return ImportedPredictions(name, scores, form, None, ids, outputs)


def _top_form(form: ReadForm) -> Form:
    return "logits" if form == "logits" else "probabilities"


def _from_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], form: ReadForm, only: str | None
) -> ImportedFile:
    if only is not None and only not in arrays:
        names = list_names(list(arrays)) or "none"
        raise DataError(f"{path} has no array {only!r:.80}. Its arrays: {names}.")
    if any(name.endswith(_EXPORTED_LOGS) for name in arrays):
        return _from_export(path, arrays)
    id_name = next((name for name in arrays if _is_id_array(name, arrays)), None)
    ids = None if id_name is None else _ids(arrays[id_name], f"{path}: {id_name!r:.80}")
    label_names = [
        name for name in arrays if name.lower() in LABEL_NAMES and name not in (id_name, only)
    ]
    labels = [
        Labels(f"{path}: {name!r:.80}", parse_labels(arrays[name], f"{path}: {name!r:.80}"), ids)
        for name in label_names
    ]
    rest = {name: value for name, value in arrays.items() if name not in (id_name, *label_names)}
    is_unspecified = False
    if "models" in rest:
        members, used = (
            _top_of_models(path, rest, form, ids),
            {"models", "classes", "probabilities"},
        )
    elif _is_top(rest):
        members = [_top(path.stem, rest["probabilities"], rest["classes"], form, ids, str(path))]
        used = {"classes", "probabilities"}
    else:
        members, used = _dense_arrays(path, rest, form, ids, only)
        is_unspecified = only is None and len(members) > 1
    if not members:
        names = list_names([f"{name} {list(value.shape)}" for name, value in arrays.items()])
        raise DataError(f"{path} holds no array of [image, class], but {names or 'nothing'}.")
    ignored = [
        f"the array {name!r:.80} {list(rest[name].shape)}" for name in rest if name not in used
    ]
    return ImportedFile(path, tuple(members), tuple(labels), None, tuple(ignored), is_unspecified)


def _is_id_array(name: str, arrays: Mapping[str, np.ndarray]) -> bool:
    """Tell ids by their name, and by a length that is that of some predictions."""
    array = arrays[name]
    if name in ("image_ids", "image_index"):
        return True
    rows = {len(a) for a in arrays.values() if a.ndim == 2}
    rows |= {a.shape[1] for a in arrays.values() if a.ndim == 3}
    is_column = array.ndim > 0 and array.size == len(array) and len(array) in rows
    return name.lower() in ID_NAMES and is_column


def _ids(array: np.ndarray, where: str) -> Shaped[np.ndarray, "image"]:
    if not array.ndim or array.size != len(array):
        raise DataError(f"{where} is of shape {list(array.shape)}; expected an id for each image.")
    column = Column("image_ids", array.reshape(-1))
    if array.dtype.kind not in "iuUf" or (
        array.dtype.kind == "f" and column.whole_numbers() is None
    ):
        raise DataError(f"{where} is of the type {array.dtype}; expected text or whole numbers.")
    return column.texts()


def _is_top(arrays: Mapping[str, np.ndarray]) -> bool:
    classes, scores = arrays.get("classes"), arrays.get("probabilities")
    return classes is not None and scores is not None and classes.ndim == 2 == scores.ndim


def _top_of_models(
    path: Path,
    arrays: Mapping[str, np.ndarray],
    form: ReadForm,
    ids: Shaped[np.ndarray, "image"] | None,
) -> list[ImportedPredictions]:
    if lacking := [name for name in ("classes", "probabilities") if name not in arrays]:
        raise DataError(
            f"cannot read predictions from {path}: it has `models` and no {' and '.join(lacking)}; "
            "expected classes and probabilities of [model, image, k]."
        )
    names, classes, scores = (arrays[name] for name in ("models", "classes", "probabilities"))
    if (
        names.ndim != 1
        or classes.ndim != 3
        or scores.ndim != 3
        or not (len(names) == len(classes) == len(scores))
    ):
        shapes = ", ".join(str(list(array.shape)) for array in (names, classes, scores))
        raise DataError(
            f"cannot read predictions from {path}: models, classes and probabilities are of the shapes "
            f"{shapes}; expected [model], [model, image, k] and [model, image, k]."
        )
    return [
        _top(str(name), p, c, form, ids, f"{path}: {name!r:.80}")
        for name, c, p in zip(names.tolist(), classes, scores, strict=True)
    ]


def _top(
    name: str,
    scores: np.ndarray,
    classes: np.ndarray,
    form: ReadForm,
    ids: Shaped[np.ndarray, "image"] | None,
    where: str,
) -> ImportedPredictions:
    whole = classes.dtype.kind in "iu" or (
        classes.dtype.kind == "f" and np.isfinite(classes).all() and not (classes % 1).any()
    )
    if not whole or scores.dtype.kind not in "biuf":
        raise DataError(
            f"{where}: classes are of the type {classes.dtype} and scores of {scores.dtype}; expected "
            "whole numbers and numbers."
        )
    if classes.size and abs(classes.astype(np.float64)).max() >= 2**31:
        raise DataError(f"{where}: the class {classes.max()} is none; expected a number from 0.")
    return ImportedPredictions(
        name, scores.astype(np.float64), _top_form(form), classes.astype(np.int64), ids
    )


def _dense_arrays(
    path: Path,
    arrays: Mapping[str, np.ndarray],
    form: ReadForm,
    ids: Shaped[np.ndarray, "image"] | None,
    only: str | None,
) -> tuple[list[ImportedPredictions], set[str]]:
    names = [
        name
        for name, array in arrays.items()
        if array.ndim == 2 and array.dtype.kind in "biuf" and name.lower() not in _FEATURE_NAMES
    ]
    names = names if only is None else [only]
    named = next(
        (
            n
            for n, a in arrays.items()
            if n.lower() in _CLASS_NAMES and a.ndim == 1 and n not in names
        ),
        None,
    )
    outputs = (
        None if named is None else tuple(_ids(arrays[named], f"{path}: {named!r:.80}").tolist())
    )
    used, members = set(names), []
    for name in names:
        scores = _scores(arrays[name], f"{path}: {name!r:.80}")
        own = outputs if outputs is not None and len(outputs) == scores.shape[1] else None
        if own is not None and named is not None:
            used.add(named)
        # np.savez calls an array that was given no name arr_0.
        called = path.stem if len(names) == 1 and _DEFAULT_NAME.fullmatch(name) else name
        try:
            members.append(_dense(called, scores, form, ids, own))
        except DataError as error:
            if len(names) == 1:
                raise
            raise DataError(
                f"{error} If the array {name!r:.80} is no prediction, take the others alone, as in "
                f"{path}:{names[0] if name != names[0] else names[1]}."
            ) from error
    return members, used


def _from_export(path: Path, arrays: Mapping[str, np.ndarray]) -> ImportedFile:
    """Read what `ensemble table export` wrote: log-probabilities and ids of each column, and labels."""
    columns = [
        name.removesuffix(_EXPORTED_LOGS) for name in arrays if name.endswith(_EXPORTED_LOGS)
    ]
    classes = arrays.get("classes")
    names = None if classes is None else tuple(_ids(classes, f"{path}: 'classes'").tolist())
    members, ignored = [], []
    used = {"classes", "labels", "image_ids"}
    for column in columns:
        used |= {column + _EXPORTED_LOGS, column + _EXPORTED_IDS}
        scores = _scores(arrays[column + _EXPORTED_LOGS], f"{path}: {column!r:.80}")
        if names is not None and scores.shape[1] != len(names):
            ignored.append(
                f"the column {column!r:.80}, of {scores.shape[1]} of {len(names)} classes"
            )
            continue
        if column + _EXPORTED_IDS not in arrays:
            raise DataError(
                f"{path} has no {column + _EXPORTED_IDS!r:.80} for its log-probabilities."
            )
        ids = _ids(arrays[column + _EXPORTED_IDS], f"{path}: the ids of {column!r:.80}")
        members.append(ImportedPredictions(column, scores, "logits", None, ids))
    if not members:
        raise DataError(f"{path} holds no predictions of all {len(names or ())} classes.")
    short = [member.name.rpartition(".")[0] or member.name for member in members]
    members = [
        replace(member, name=name) if short.count(name) == 1 else member
        for member, name in zip(members, short, strict=True)
    ]
    labels = []
    if "labels" in arrays and "image_ids" in arrays:
        ids = _ids(arrays["image_ids"], f"{path}: 'image_ids'")
        labels = [Labels(f"{path}: 'labels'", parse_labels(arrays["labels"], str(path)), ids)]
    ignored += [f"the array {name!r:.80}" for name in arrays if name not in used]
    return ImportedFile(path, tuple(members), tuple(labels), names, tuple(ignored))


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
        member, used = _dense_columns(path, parts, form, ids)
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
    return _top(path.stem, np.array(rows).T, values, form, ids, str(path))


def _dense_columns(
    path: Path, parts: Parts, form: ReadForm, ids: Shaped[np.ndarray, "image"] | None
) -> tuple[ImportedPredictions, list[Column]]:
    lists = [column for column in parts.scores if column.is_list]
    if lists:
        if len(lists) > 1:
            names = ", ".join(repr(column.name) for column in lists)
            raise DataError(f"{path} has lists of numbers in the columns {names}; expected one.")
        scores = _scores(lists[0].values, f"{path}: {lists[0].name!r:.80}")
        return _dense(path.stem, scores, form, ids), lists
    if not parts.scores:
        raise DataError(f"{path} has no column of scores; expected one for each class.")
    used = _of_one_kind(parts.scores)
    scores = _scores(
        np.array([_numbers(path, column) for column in used]).T, f"the scores of {path}"
    )
    outputs = tuple(column.name.strip() for column in used)
    return _dense(path.stem, scores, form, ids, outputs), list(used)


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
