"""What a file of predictions says, and the checks of its numbers whatever file they stand in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Shaped

from ensemble.errors import DataError
from ensemble.table.imported import Form, ImportedPredictions, is_distribution
from ensemble.table.imports.labels import Labels

# How predictions are to be read: `auto` takes rows that are distributions for probabilities.
ReadForm = Literal["logits", "probabilities", "auto"]


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


def scores_in(array: np.ndarray, where: str) -> Float[np.ndarray, "image score"]:
    """Take an array for the scores of classes.

    Args:
        array: An array of a file.
        where: What messages call it.

    Raises:
        DataError: The array is not of the shape [image, class], or holds no numbers.
    """
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise DataError(
            f"{where} is of shape {list(array.shape)} and type {array.dtype}; expected numbers "
            "[image, class], a row for each image and a column for each class."
        )
    if array.shape[1] == 0:
        raise DataError(f"{where} has no column; expected one for each class.")
    if array.shape[1] == 1:
        raise DataError(
            f"{where} has one column; expected one for each class. If it is the probability p of the "
            "second of two classes, save the columns 1-p and p."
        )
    return array.astype(np.float32 if array.dtype in (np.float16, np.float32) else np.float64)


def dense(
    name: str,
    scores: Float[np.ndarray, "image score"],
    form: ReadForm,
    ids: Shaped[np.ndarray, "id"] | None = None,
    outputs: tuple[str, ...] | None = None,
) -> ImportedPredictions:
    """Make a member of scores of every class.

    Args:
        name: Name of the member.
        scores: The scores.
        form: What they are.
        ids: Id of the image of each row; None if the file has none.
        outputs: Names of the outputs; None if the file has none.

    Raises:
        DataError: The scores are not what `form` says.
    """
    if form == "auto":
        form = "probabilities" if is_distribution(scores).all() else "logits"
    return ImportedPredictions(name, scores, form, None, ids, outputs)


def _top_form(form: ReadForm) -> Form:
    return "logits" if form == "logits" else "probabilities"


def top_of(
    name: str,
    scores: np.ndarray,
    classes: np.ndarray,
    form: ReadForm,
    ids: Shaped[np.ndarray, "id"] | None,
    where: str,
) -> ImportedPredictions:
    """Make a member of scores of the best classes.

    Args:
        name: Name of the member.
        scores: The scores, [image, k].
        classes: The class of each score, [image, k]; -1 for none.
        form: What the scores are.
        ids: Id of the image of each row; None if the file has none.
        where: What messages call the arrays.

    Raises:
        DataError: Classes are no whole numbers, or scores are no probabilities.
    """
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
