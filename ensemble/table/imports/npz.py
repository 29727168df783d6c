"""Archives of arrays: members, ids, labels and names of classes by their names and shapes."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from ensemble.errors import DataError
from ensemble.table.imported import ImportedPredictions
from ensemble.table.imports.columns import (
    ID_NAMES,
    LABEL_NAMES,
    ids_in,
    list_names,
    words,
)
from ensemble.table.imports.contents import ImportedFile, ReadForm, dense, scores_in, top_of
from ensemble.table.imports.labels import Labels, parse_labels

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


def read_archive(
    path: Path, arrays: Mapping[str, np.ndarray], form: ReadForm, only: str | None
) -> ImportedFile:
    """Find members, ids and labels among the arrays of an archive.

    Args:
        path: The file.
        arrays: Its arrays, by name.
        form: What scores are.
        only: Name of the one array that is taken for a member; None for all that fit.

    Raises:
        DataError: No array can be a member, or some array is not what its name says.
    """
    if only is not None and only not in arrays:
        names = list_names(list(arrays)) or "none"
        raise DataError(f"{path} has no array {only!r:.80}. Its arrays: {names}.")
    if any(name.endswith(_EXPORTED_LOGS) for name in arrays):
        return _from_export(path, arrays)
    id_name = next((name for name in arrays if _is_id_array(name, arrays)), None)
    ids = None if id_name is None else ids_in(arrays[id_name], f"{path}: {id_name!r:.80}")
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
        members = [top_of(path.stem, rest["probabilities"], rest["classes"], form, ids, str(path))]
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
        top_of(str(name), p, c, form, ids, f"{path}: {name!r:.80}")
        for name, c, p in zip(names.tolist(), classes, scores, strict=True)
    ]


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
        None if named is None else tuple(ids_in(arrays[named], f"{path}: {named!r:.80}").tolist())
    )
    used, members = set(names), []
    for name in names:
        scores = scores_in(arrays[name], f"{path}: {name!r:.80}")
        own = outputs if outputs is not None and len(outputs) == scores.shape[1] else None
        if own is not None and named is not None:
            used.add(named)
        # np.savez calls an array that was given no name arr_0.
        called = path.stem if len(names) == 1 and _DEFAULT_NAME.fullmatch(name) else name
        try:
            members.append(dense(called, scores, form, ids, own))
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
    names = None if classes is None else tuple(ids_in(classes, f"{path}: 'classes'").tolist())
    members, ignored = [], []
    used = {"classes", "labels", "image_ids"}
    for column in columns:
        used |= {column + _EXPORTED_LOGS, column + _EXPORTED_IDS}
        scores = scores_in(arrays[column + _EXPORTED_LOGS], f"{path}: {column!r:.80}")
        if names is not None and scores.shape[1] != len(names):
            ignored.append(
                f"the column {column!r:.80}, of {scores.shape[1]} of {len(names)} classes"
            )
            continue
        if column + _EXPORTED_IDS not in arrays:
            raise DataError(
                f"{path} has no {column + _EXPORTED_IDS!r:.80} for its log-probabilities."
            )
        ids = ids_in(arrays[column + _EXPORTED_IDS], f"{path}: the ids of {column!r:.80}")
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
        ids = ids_in(arrays["image_ids"], f"{path}: 'image_ids'")
        labels = [Labels(f"{path}: 'labels'", parse_labels(arrays["labels"], str(path)), ids)]
    ignored += [f"the array {name!r:.80}" for name in arrays if name not in used]
    return ImportedFile(path, tuple(members), tuple(labels), names, tuple(ignored))
