"""Outcomes: how each predictor does on each image of a split, read from the table in windows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from ensemble.errors import EmptySplitError
from ensemble.evaluation import metrics
from ensemble.evaluation.calibration import at_temperature
from ensemble.evaluation.reading import Column, read_windows
from ensemble.images.index import ImageIndex
from ensemble.outranking.fixed_point import PROBABILITY_FLOOR, WEIGHT_UNITS
from ensemble.outranking.weighting import Weighting
from ensemble.table.logit_table import LogitTable


@dataclass(frozen=True)
class Outcome:
    """How one predictor does on the images of a split: all that errors and the NLL depend on.

    Attributes:
        ranks: Number of classes that outrank the label; 0 is a hit.
        answers: Index of the class with the highest score.
        label_probabilities: Probability of the label.
        answer_probabilities: Probability of the answer.
    """

    ranks: Int[np.ndarray, "image"]
    answers: Int[np.ndarray, "image"]
    label_probabilities: Float[np.ndarray, "image"]
    answer_probabilities: Float[np.ndarray, "image"]

    @classmethod
    def of(
        cls,
        probabilities: Float[np.ndarray, "image class"],
        labels: Int[np.ndarray, "image"],
        scores: Float[np.ndarray, "image class"] | None = None,
    ) -> "Outcome":
        """Judge probabilities; `scores` rank the classes where their order is another one."""
        scores = probabilities if scores is None else scores
        rows, answers = np.arange(len(labels)), scores.argmax(axis=1)
        return cls(
            ranks=metrics.ranks(scores, labels),
            answers=answers,
            label_probabilities=probabilities[rows, labels],
            answer_probabilities=probabilities[rows, answers],
        )

    @classmethod
    def join(cls, parts: Sequence["Outcome"]) -> "Outcome":
        """Join outcomes of consecutive images into one of all, in order.

        Raises:
            EmptySplitError: There is no image.
        """
        if not parts:
            raise EmptySplitError(
                "there is no image to judge predictors on. Expected at least one that can be "
                "decoded in each split."
            )
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in vars(parts[0])))

    def take(self, rows: Bool[np.ndarray, " image"]) -> "Outcome":
        """Take some images."""
        return Outcome(*(values[rows] for values in vars(self).values()))

    def errors(self, k: int) -> int:
        """Count the images whose label is not among the k highest classes."""
        return int(self.is_error(k).sum())

    def is_error(self, k: int) -> Bool[np.ndarray, "image"]:
        """Tell for each image whether its label is not among the k highest classes."""
        return self.ranks >= k

    @property
    def is_wrong(self) -> Bool[np.ndarray, "image"]:
        """Whether each image is a top-1 error."""
        return self.ranks >= 1

    @property
    def nll(self) -> float:
        """Mean negative log-likelihood of the label, in nats; floored as `metrics.nll` does."""
        floored = np.maximum(np.nan_to_num(self.label_probabilities), PROBABILITY_FLOOR)
        return float(-np.log(floored).mean())


def evaluate(
    table: LogitTable,
    members: Sequence[Column],
    images: ImageIndex,
    weightings: Mapping[str, Weighting],
) -> dict[str, Outcome]:
    """Judge every single member and every weighting on a split.

    Args:
        table: The logit table, with a row of every member for every image.
        members: The pool.
        images: Images of the split.
        weightings: Weights of the members by the key of the weighting.

    Returns:
        Outcomes by the name of a member or the key of a weighting.

    Raises:
        EmptySplitError: There is no image.
    """
    singles = {
        member.name: Weighting(WEIGHT_UNITS * np.eye(len(members), dtype=np.int64)[i])
        for i, member in enumerate(members)
    }
    return evaluate_weightings(table, members, images, {**singles, **weightings})


def evaluate_weightings(
    table: LogitTable,
    members: Sequence[Column],
    images: ImageIndex,
    weightings: Mapping[str, Weighting],
    temperatures: Mapping[str, float] | None = None,
) -> dict[str, Outcome]:
    """Judge weightings alone on a split.

    Args:
        table: The logit table, with a row of every member for every image.
        members: The pool.
        images: Images of the split.
        weightings: Weights of the members by the key of the weighting.
        temperatures: Temperatures of the averages, by key; 1 where a weighting has none.

    Raises:
        EmptySplitError: There is no image.
    """
    temperatures = temperatures or {}
    parts: dict[str, list[Outcome]] = {name: [] for name in weightings}
    for rows, labels in read_windows(table, members, images):
        for name, weighting in weightings.items():
            scores = metrics.scores(rows, weighting)
            probabilities = metrics.to_probabilities(scores, len(rows), weighting)
            probabilities = at_temperature(probabilities, temperatures.get(name, 1.0))
            parts[name].append(Outcome.of(probabilities, labels, scores))
    return {name: Outcome.join(outcomes) for name, outcomes in parts.items()}
