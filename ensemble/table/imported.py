"""Predictions that were computed outside this project, as columns of a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Shaped

from ensemble.errors import DataError
from ensemble.members.identity import fingerprint

Form = Literal["logits", "probabilities"]

# How far the probabilities of a row, rounded as files hold them, may sum from 1.
_TOLERANCE = 0.01
# What probabilities were multiplied by.
_SCALES = {100: "percent", 255: "bytes, 255 for 1"}
# The smallest normal number: the log-probability of a class without any probability stays finite.
_LEAST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class ImportedPredictions:
    """One member's predictions, dense or of its best classes only.

    Attributes:
        name: Name of the member.
        scores: Logits or probabilities.
        form: Whether the scores are logits or probabilities.
        top: Output that each score belongs to, -1 for none; None if there is a score for every output.
        image_ids: Id of the image of each row; None if the file holds no ids.
        outputs: What the file calls each output, such as its columns' names; None if it names none.
    """

    name: str
    scores: Float[np.ndarray, "image score"]
    form: Form
    top: Int[np.ndarray, "row place"] | None = None
    image_ids: Shaped[np.ndarray, "id"] | None = None
    outputs: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not self.scores.size:
            rows, outputs = self.scores.shape
            raise DataError(
                f"{self.title} has {rows} images and {outputs} outputs; expected at least one of each."
            )
        if self.image_ids is not None and len(self.image_ids) != len(self.scores):
            raise DataError(
                f"{self.title} has {len(self.scores)} rows and {len(self.image_ids)} ids; expected an id "
                "for each row."
            )
        if self.form == "logits" and self.top is not None:
            raise DataError(
                f"{self.title}: logits of the best classes alone do not say what is left for the others. "
                "Give probabilities."
            )
        if wrong := np.count_nonzero(~np.isfinite(self.scores)):
            row = int(np.flatnonzero(~np.isfinite(self.scores).all(axis=1))[0])
            raise DataError(
                f"{self.title}: some scores are not finite numbers: {wrong} of {self.scores.size}, the "
                f"first in row {row}. Mend the file."
            )
        if self.form == "probabilities":
            self._check_probabilities()
        elif is_distribution(self.scores).all():
            raise DataError(
                f"{self.title}: every row is a distribution already: numbers from 0 to 1 that sum to 1. As "
                "logits they would be flattened by a second softmax. Leave out --form logits, or say "
                "--form auto where other members are logits."
            )
        if self.top is not None:
            self._check_top(self.top)

    @property
    def title(self) -> str:
        """The name as messages show it: quoted where it holds what a terminal would obey."""
        return self.name if self.name.isprintable() else repr(self.name)

    def _check_probabilities(self) -> None:
        low, high = float(self.scores.min()), float(self.scores.max())
        total = self.scores.sum(axis=1, dtype=np.float64) if high < 1e9 else np.array([high])
        if low < 0 or total.max() > 1 + _TOLERANCE:
            raise DataError(
                f"{self.title}: scores from {low:.3g} with sums up to {total.max():.3g} are not "
                f"probabilities. {self._explain_sum(total)}"
            )
        if self.top is None and total.min() < 1 - _TOLERANCE:
            raise DataError(
                f"{self.title}: probabilities of one image sum to {total.min():.3g} only; expected 1. "
                "If they are logits, say --form logits."
            )

    def _explain_sum(self, total: Float[np.ndarray, "image"]) -> str:
        """Say what else the scores may be, and what to do."""
        hint = "If they are logits, say --form logits."
        if self.top is not None or len(total) != len(self.scores):
            return hint
        for whole, what in _SCALES.items():
            if self.scores.min() >= 0 and np.abs(total / whole - 1).max() <= _TOLERANCE:
                return f"They are {what}; divide them by {whole}."
        if is_distribution(self.scores.T).all():
            return "Every column sums to 1: the array is [class, image]. Save it transposed."
        # A stray column is the one that exceeds 1 somewhere, or the first or last of a row.
        suspects = np.flatnonzero((self.scores > 1 + _TOLERANCE).any(axis=0))
        width = self.scores.shape[1]
        for output in suspects[:1] if len(suspects) else (0, width - 1):
            if is_distribution(np.delete(self.scores, output, axis=1)).all():
                name = output if self.outputs is None else repr(self.outputs[output])
                return (
                    f"Without output {name} (counted from 0) every row is a distribution: it is no "
                    "class, but an id, a label or an index. Remove it."
                )
        return hint

    def _check_top(self, top: Int[np.ndarray, "row place"]) -> None:
        if top.shape != self.scores.shape:
            raise DataError(
                f"{self.title}: there are classes of shape {list(top.shape)} and scores of shape "
                f"{list(self.scores.shape)}; expected a class for each score."
            )
        if top.min() < -1:
            raise DataError(
                f"{self.title}: the class {top.min()} is none; expected an output from 0, or -1 for none."
            )
        ordered = np.sort(np.where(self.scores > 0, top, -1), axis=1)
        is_twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
        if is_twice.any():
            rows = np.flatnonzero(is_twice.any(axis=1))
            name = ordered[rows[0], 1:][is_twice[rows[0]]][0]
            raise DataError(
                f"{self.title}: {len(rows)} of {len(top)} rows name a class twice, as row {rows[0]} does "
                f"with class {name}. Each class may stand once in a row; fill rows up with class -1."
            )


def is_distribution(
    scores: Float[np.ndarray, "image score"],
) -> Bool[np.ndarray, "image"]:
    """Tell which rows are numbers from 0 to 1 that sum to 1, to within rounding."""
    inside = (scores.min(axis=1) >= 0) & (scores.max(axis=1) <= 1 + _TOLERANCE)
    total = np.where(inside[:, None], scores, 0).sum(axis=1, dtype=np.float64)
    return inside & (np.abs(total - 1) <= _TOLERANCE)


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
    classes = np.array([-1 if c is None else c for c in class_map], np.int64)
    scores = predictions.scores[rows].astype(np.float64)
    if predictions.top is not None:
        top = predictions.top[rows]
        is_listed = (top >= 0) & (scores > 0)
        ours = classes[np.where(is_listed, top, 0)]
        return np.log(_spread(scores, ours, is_listed, num_classes)).astype(np.float32)
    if predictions.form == "logits":
        with np.errstate(
            over="ignore"
        ):  # a difference of more than all floats is a probability of 0
            scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    out = np.zeros((len(scores), num_classes))
    out[:, classes[classes >= 0]] = scores[:, classes >= 0]
    out /= np.maximum(out.sum(axis=1, keepdims=True), _LEAST)
    return np.log(np.maximum(out, _LEAST)).astype(np.float32)


def _spread(
    scores: Float[np.ndarray, "image score"],
    classes: Int[np.ndarray, "image score"],
    is_listed: Bool[np.ndarray, "image score"],
    num_classes: int,
) -> Float[np.ndarray, "image class"]:
    is_known = is_listed & (classes >= 0)
    missing = np.maximum(0, 1 - np.where(is_known, scores, 0).sum(axis=1))
    least = np.where(is_listed, scores, 1).min(axis=1)
    rest = np.minimum(missing / np.maximum(1, num_classes - is_listed.sum(axis=1)), least)
    # What is no class here goes into a last column, which is cut off.
    out = np.repeat(rest[:, None], num_classes + 1, axis=1)
    np.put_along_axis(out, np.where(is_known, classes, num_classes), scores, axis=1)
    return np.maximum(out[:, :num_classes], _LEAST)
