"""Predictions that were computed outside this project, as columns of a table."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float32, Int, Shaped

from ensemble.errors import DataError
from ensemble.members.identity import fingerprint
from ensemble.table.block import LogitBlock
from ensemble.table.logit_table import LogitTable

Form = Literal["logits", "probabilities"]

_BLOCK_IMAGES = 1024
# The smallest normal number: the log-probability of a class without any probability stays finite.
_LEAST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class ImportedPredictions:
    """One member's predictions, dense or of its best classes only.

    Attributes:
        name: Name of the member.
        scores: Logits or probabilities.
        form: Whether the scores are logits or probabilities.
        top: Output that each score belongs to, best first; none if there is a score for every output.
        image_ids: Id of the image of each row; none if the file holds no ids.
    """

    name: str
    scores: Float[np.ndarray, "image score"]
    form: Form
    top: Int[np.ndarray, "image score"] | None = None
    image_ids: Shaped[np.ndarray, "image"] | None = None

    def __post_init__(self) -> None:
        if self.form == "logits" and self.top is not None:
            raise DataError(
                f"{self.name}: logits of the best classes alone do not say what is left for the others. "
                "Give probabilities."
            )
        if not np.isfinite(self.scores).all():
            raise DataError(f"{self.name}: some scores are not finite numbers. Mend the file.")
        if self.form == "probabilities" and len(self.scores):
            total = self.scores.sum(axis=1, dtype=np.float64)
            if self.scores.min() < 0 or total.max() > 1.01:
                raise DataError(
                    f"{self.name}: scores from {self.scores.min():.3g} with sums up to {total.max():.3g} "
                    "are not probabilities. If they are logits, say --form logits."
                )
            if self.top is None and total.min() < 0.99:
                raise DataError(
                    f"{self.name}: probabilities of one image sum to {total.min():.3g} only; expected 1."
                )


@dataclass(frozen=True)
class ImportedMember:
    """The member of imported predictions, which has a name and an identity but no network.

    Attributes:
        name: Name of the member.
        identity: Everything that the column's fingerprint is made of.
    """

    name: str
    identity: Mapping[str, object]

    @cached_property
    def column(self) -> str:
        """Identity of the column."""
        return fingerprint(dict(self.identity))[:16]


def read_file(path: Path, form: Form) -> tuple[list[ImportedPredictions], dict[str, np.ndarray]]:
    """Read the predictions of a file, and its other arrays (labels, ids) by name.

    `.npy`: [image, class] of one member. `.npz`: `models`, `classes` and `probabilities`, each
    [model, image, k], for top-k of many; or one [image, class] array a member. `.csv`, `.parquet`:
    an `image_id` column, then a column a class; or `class_1 … class_k` and `score_1 … score_k`.

    Raises:
        DataError: The file cannot be read, or holds none of these.
    """
    try:
        if path.suffix == ".npy":
            return [ImportedPredictions(path.stem, np.load(path, allow_pickle=False), form)], {}
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return _from_arrays(path, dict(file), form)
        if path.suffix == ".csv":
            return [_from_columns(path, _csv_columns(path), form)], {}
        if path.suffix == ".parquet":
            from pyarrow import parquet

            return [_from_columns(path, parquet.read_table(path).to_pydict(), form)], {}
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise DataError(f"cannot read predictions from {path}: {error}.") from error
    raise DataError(f"cannot read {path}; expected .npy, .npz, .csv or .parquet.")


def _from_arrays(
    path: Path, arrays: dict[str, np.ndarray], form: Form
) -> tuple[list[ImportedPredictions], dict[str, np.ndarray]]:
    extra = {name: a for name, a in arrays.items() if a.ndim < 2}
    ids = extra.get("image_ids", extra.get("image_index"))
    ids = None if ids is None else ids.astype(np.str_)
    if "models" in arrays:
        top = zip(arrays["classes"], arrays["probabilities"], strict=True)
        named = zip(arrays["models"].tolist(), top, strict=True)
        return [
            ImportedPredictions(str(name), p, "probabilities", c, ids) for name, (c, p) in named
        ], extra
    members = [
        ImportedPredictions(name, a, form, None, ids) for name, a in arrays.items() if a.ndim == 2
    ]
    if not members:
        raise DataError(f"{path} holds no array of [image, class].")
    return members, extra


def _csv_columns(path: Path) -> dict[str, list[Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    return {
        name: list(column) for name, column in zip(header, zip(*rows, strict=True), strict=True)
    }


def _from_columns(path: Path, columns: dict[str, list[Any]], form: Form) -> ImportedPredictions:
    ids = columns.pop("image_id", None)
    image_ids = None if ids is None else np.array(ids).astype(np.str_)
    k = sum(name.startswith("class_") and f"score_{name[6:]}" in columns for name in columns)
    if k:
        scores = [columns[f"score_{i}"] for i in range(1, k + 1)]
        top = [columns[f"class_{i}"] for i in range(1, k + 1)]
        return ImportedPredictions(
            path.stem,
            np.array(scores, np.float64).T,
            form,
            np.array(top).astype(np.int64).T,
            image_ids,
        )
    values = np.array(list(columns.values()), np.float64).T
    return ImportedPredictions(path.stem, values, form, None, image_ids)


def log_probabilities(
    predictions: ImportedPredictions, rows: slice, num_classes: int, class_map: Sequence[int | None]
) -> Float32[np.ndarray, "image class"]:
    """Compute log-probabilities of the table's classes for some images.

    For top-k predictions, the probability that is missing to 1 is spread evenly over the other
    classes, but none of them gets more than the k-th, because it was not among the best.

    Args:
        predictions: The predictions of one member.
        rows: Rows of the images.
        num_classes: Number of the table's classes.
        class_map: Class of each output of the member; none for an output that is no class here.
    """
    classes = np.array([-1 if c is None else c for c in class_map])
    scores = predictions.scores[rows].astype(np.float64)
    if predictions.top is not None:
        return np.log(_spread(scores, classes[predictions.top[rows]], num_classes)).astype(
            np.float32
        )
    if predictions.form == "logits":
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    out = np.zeros((len(scores), num_classes))
    out[:, classes[classes >= 0]] = scores[:, classes >= 0]
    out /= np.maximum(out.sum(axis=1, keepdims=True), _LEAST)
    return np.log(np.maximum(out, _LEAST)).astype(np.float32)


def _spread(
    scores: Float[np.ndarray, "image score"], top: Int[np.ndarray, "image score"], num_classes: int
) -> Float[np.ndarray, "image class"]:
    known = np.where(top >= 0, scores, 0)
    missing = np.maximum(0, 1 - known.sum(axis=1))
    rest = np.minimum(missing / max(1, num_classes - scores.shape[1]), scores.min(axis=1))
    # Outputs that are no class here go into a last column, which is cut off.
    out = np.repeat(rest[:, None], num_classes + 1, axis=1)
    np.put_along_axis(out, top, scores, axis=1)
    return np.maximum(out[:, :num_classes], _LEAST)


def add_to_table(
    table: LogitTable,
    predictions: ImportedPredictions,
    image_ids: Sequence[str],
    num_classes: int,
    class_map: Sequence[int | None],
    data_sha256: str,
) -> ImportedMember:
    """Commit the predictions of one member.

    Raises:
        DataError: The number of images is not the expected one, or an output has no class.
    """
    outputs = (
        predictions.scores.shape[1]
        if predictions.top is None
        else int(predictions.top.max(initial=-1)) + 1
    )
    is_dense = predictions.top is None
    if len(predictions.scores) != len(image_ids) or (
        outputs != len(class_map) if is_dense else outputs > len(class_map)
    ):
        raise DataError(
            f"{predictions.name} has {len(predictions.scores)} images and {outputs} outputs; expected "
            f"{len(image_ids)} images and {len(class_map)} outputs. Give the labels of the same images, "
            "and a --class-map where outputs are not the classes."
        )
    digest = sha256(np.ascontiguousarray(predictions.scores).tobytes())
    digest.update(
        b"" if predictions.top is None else np.ascontiguousarray(predictions.top).tobytes()
    )
    identity = {
        "architecture": predictions.name,
        "classes": list(range(num_classes)),
        "predictions_sha256": digest.hexdigest(),
        "form": predictions.form if is_dense else f"top-{predictions.scores.shape[1]}",
        "class_map_sha256": fingerprint(list(class_map)),
        "data_sha256": data_sha256,
    }
    member = ImportedMember(predictions.name, identity)
    for rows in _blocks(len(image_ids)):
        table.commit(
            member,
            LogitBlock(
                column=member.column,
                image_ids=np.array(image_ids[rows], np.str_),
                log_probabilities=log_probabilities(predictions, rows, num_classes, class_map),
                bad=(),
                seconds=0.0,
                forward_passes=0,
            ),
        )
    return member


def _blocks(images: int) -> Iterator[slice]:
    for start in range(0, images, _BLOCK_IMAGES):
        yield slice(start, start + _BLOCK_IMAGES)
