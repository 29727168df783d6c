"""Labels as others write them: class numbers or names, a column, one-hot rows, by row or by image id."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Shaped

from ensemble.errors import DataError
from ensemble.table.imports.columns import (
    list_names,
)


@dataclass(frozen=True)
class Labels:
    """The label of each row of a file, as the file has it.

    Attributes:
        where: What messages call it.
        values: Numbers of classes (int64), or names of classes.
        image_ids: Id of the image of each row; None if the file holds no ids.
        ignored: What the file holds besides, in words.
    """

    where: str
    values: Shaped[np.ndarray, "image"]
    image_ids: Shaped[np.ndarray, "row"] | None = None
    ignored: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.image_ids is not None and len(self.image_ids) != len(self.values):
            raise DataError(
                f"{self.where}: there are {len(self.values)} labels and {len(self.image_ids)} ids; expected "
                "an id for each label."
            )


def parse_labels(values: np.ndarray, where: str) -> Shaped[np.ndarray, "image"]:
    """Read labels of any plain form as numbers of classes or names of classes.

    Args:
        values: Numbers or text, of shape [image] or [image, 1], or one-hot rows [image, class].
        where: What messages call them.

    Returns:
        Of type int64 or text, of shape [image].

    Raises:
        DataError: They are none of these, or some label is no whole number.
    """
    if values.dtype.kind not in "biufU":
        raise DataError(
            f"{where} are of the type {values.dtype}; expected whole numbers or text. Convert them."
        )
    if not values.size:
        raise DataError(f"{where} are empty; expected the label of each image.")
    if (
        values.ndim > 1
        and values.dtype.kind != "U"
        and values.shape[1:] != (1,) * (values.ndim - 1)
    ):
        values = _from_one_hot(values, where)
    elif values.ndim != 1:
        if values.ndim == 0 or values.size != len(values):
            raise DataError(
                f"{where} are of shape {list(values.shape)}; expected one label for each image."
            )
        values = values.reshape(-1)
    return _from_text(values, where) if values.dtype.kind == "U" else _whole(values, where)


def _from_one_hot(values: np.ndarray, where: str) -> np.ndarray:
    if not is_one_hot(values):
        if values.ndim == 2 and len(values) == 1:
            return values[0]
        raise DataError(
            f"{where} are of shape {list(values.shape)} and not one-hot; expected one label for each "
            "image, or rows with a single 1."
        )
    return values.argmax(axis=1)


def is_one_hot(values: np.ndarray) -> bool:
    """Tell whether every row is zeros and a single 1."""
    return (
        values.ndim == 2
        and values.shape[1] > 1
        and bool(((values == 0) | (values == 1)).all())
        and bool((np.count_nonzero(values, axis=1) == 1).all())
    )


def _from_text(values: np.ndarray, where: str) -> np.ndarray:
    texts = [text.strip() for text in values.tolist()]
    if "" in texts:
        raise DataError(
            f"{where}: row {texts.index('')} is empty; expected a label for each image."
        )
    numbers = [number_in(text) for text in texts]
    if None not in numbers:
        return np.array(numbers, np.int64)
    return np.array(texts, np.str_)


def number_in(text: str) -> int | None:
    """Read a number that is written as a number is, as 3 or 3.0; None for all else, as 007."""
    digits = text.removesuffix(".0")
    is_plain = digits.removeprefix("-").isdecimal() and digits.isascii() and len(digits) < 19
    return int(digits) if is_plain and str(int(digits)) == digits else None


def _whole(values: np.ndarray, where: str) -> np.ndarray:
    if values.dtype.kind == "f":
        wrong = ~np.isfinite(values) | (np.trunc(values) != values)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise DataError(
                f"{where}: the label {values[row]} of row {row} is no whole number; expected the number "
                "or the name of a class. Mend it."
            )
    if values.dtype.kind in "fu" and len(values) and float(abs(values).max()) >= 2**62:
        raise DataError(
            f"{where}: the label {values.max()} is too large for the number of a class."
        )
    return values.astype(np.int64)


def resolve_labels(
    labels: Labels, names: Sequence[str], first_label: int | None
) -> Int[np.ndarray, "image"]:
    """Give the class index of each label.

    Args:
        labels: Labels of one file.
        names: Name of each class.
        first_label: Number of the first class where labels are numbers; None if the user does not say.

    Raises:
        DataError: A label is no class, or can be read in two ways.
    """
    values, count = labels.values, len(names)
    distinct, inverse = np.unique(values, return_inverse=True)
    index = {name: number for number, name in enumerate(names)}
    by_name = [index.get(str(value)) for value in distinct.tolist()]
    if values.dtype.kind == "U":
        if None in by_name:
            name = str(distinct[by_name.index(None)])
            raise DataError(
                f"{labels.where}: the label {name!r:.80} is no class; the classes are {list_names(names)}. Correct it, "
                "or give --classes FILE.json with all names."
            )
        return np.array(by_name, np.int64)[inverse]
    low, high = int(distinct[0]), int(distinct[-1])
    first = first_label or 0
    is_index = first <= low and high < first + count
    if first_label is None and None not in by_name:
        if is_index and by_name != distinct.tolist():
            raise DataError(
                f"{labels.where}: labels from {low} to {high} can be numbers of classes from 0, or their "
                f"names, {list_names(names)}. Say --first-label N with the number of the first class."
            )
        return np.array(by_name, np.int64)[inverse]
    if not is_index:
        raise DataError(f"{labels.where}: {_explain_labels(low, high, first, count)}")
    return values - first


def _explain_labels(low: int, high: int, first: int, count: int) -> str:
    text = (
        f"labels go from {low} to {high}, and there are {count} classes, from {first} to "
        f"{first + count - 1}. "
    )
    if low == -1:
        return text + "Is -1 an image without a label? Leave it out of labels and predictions."
    if low >= first + 1 and high == first + count:
        return (
            text + f"If the first class has the number {first + 1}, say --first-label {first + 1}."
        )
    return text + "Correct the labels, or give the predictions of all classes."
