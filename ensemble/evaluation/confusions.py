"""Confusions: which classes a predictor takes for which others, and how often."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from ensemble.evaluation.outcome import Outcome


@dataclass(frozen=True)
class Confusion:
    """Images of one class that are answered with another.

    Attributes:
        label: Class index of the images.
        answer: Class index of the answer.
        images: Number of these images.
    """

    label: int
    answer: int
    images: int


def list_confusions(
    outcome: Outcome, labels: Int[np.ndarray, " image"], most: int
) -> tuple[Confusion, ...]:
    """List the most frequent confusions; equal ones by label, then by answer.

    Images without a finite answer are confused with no class.

    Args:
        outcome: A predictor on some images.
        labels: Class index of each image.
        most: Greatest number of confusions.
    """
    is_confused = outcome.is_wrong & np.isfinite(outcome.answer_probabilities)
    pairs = np.stack([labels[is_confused], outcome.answers[is_confused]], axis=1)
    distinct, counts = np.unique(pairs, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    return tuple(Confusion(int(distinct[i, 0]), int(distinct[i, 1]), int(counts[i])) for i in order)
