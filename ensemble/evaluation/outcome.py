"""ensemble / evaluation / outcome: say here what this file is responsible for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from ensemble.errors import EmptySplitError
from ensemble.evaluation import metrics
from ensemble.evaluation.reading import read_windows
from ensemble.images.index import ImageIndex
from ensemble.members.member import Member
from ensemble.outranking.fixed_point import PROBABILITY_FLOOR, WEIGHT_UNITS
from ensemble.table.logit_table import LogitTable


@dataclass(frozen=True)
class Outcome:
    """What one predictor said of the images of a split, as far as scores depend on it.

    Attributes:
        ranks: Classes that outrank the label; 0 is a hit.
        answers: The first class.
        label_probabilities: Of the true class.
    """

    ranks: Int[np.ndarray, "image"]
    answers: Int[np.ndarray, "image"]
    label_probabilities: Float[np.ndarray, "image"]

    @classmethod
    def of(
        cls,
        probabilities: Float[np.ndarray, "image class"],
        labels: Int[np.ndarray, "image"],
        scores: Float[np.ndarray, "image class"] | None = None,
    ) -> "Outcome":
        """Judge probabilities; `scores` says in which order they rank where that differs."""
        scores = probabilities if scores is None else scores
        return cls(
            ranks=metrics.ranks(scores, labels),
            answers=scores.argmax(axis=1),
            label_probabilities=probabilities[np.arange(len(labels)), labels],
        )

    @classmethod
    def join(cls, parts: Sequence["Outcome"]) -> "Outcome":
        """One outcome of all images, in order.

        Raises:
            EmptySplitError: There is no image.
        """
        if not parts:
            raise EmptySplitError(
                "there is no image to judge predictors on. Expected at least one that can be "
                "decoded in each split."
            )
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in vars(parts[0])))

    def errors(self, k: int) -> int:
        """Images whose label is not among the first k classes."""
        return int((self.ranks >= k).sum())

    @property
    def is_wrong(self) -> Bool[np.ndarray, "image"]:
        """Top-1 errors."""
        return self.ranks >= 1

    @property
    def nll(self) -> float:
        """Mean negative log-likelihood of the label, in nats; floored as `metrics.nll` does."""
        floored = np.maximum(np.nan_to_num(self.label_probabilities), PROBABILITY_FLOOR)
        return float(-np.log(floored).mean())


def evaluate(
    table: LogitTable,
    members: Sequence[Member],
    images: ImageIndex,
    weightings: Mapping[str, Int[np.ndarray, "member"]],
) -> dict[str, Outcome]:
    """Outcomes of every single member, by name, and of every weighting, by its key."""
    singles = {
        member.name: WEIGHT_UNITS * np.eye(len(members), dtype=np.int64)[i]
        for i, member in enumerate(members)
    }
    parts: dict[str, list[Outcome]] = {name: [] for name in (*singles, *weightings)}
    for rows, labels in read_windows(table, members, images):
        for name, units in (*singles.items(), *weightings.items()):
            parts[name].append(Outcome.of(metrics.average(rows, units), labels))
    return {name: Outcome.join(outcomes) for name, outcomes in parts.items()}
