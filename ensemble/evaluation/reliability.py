"""Reliability: whether answers of which a predictor is sure by so much are right as often, and in which order."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from ensemble.errors import EmptySplitError, ShapeError
from ensemble.evaluation.outcome import Outcome

NUM_BINS = 15


@dataclass(frozen=True)
class ReliabilityBin:
    """The images whose answers have a probability above `low` and up to `high`.

    Attributes:
        low: Lower end of the bin; it belongs to the bin below.
        high: Upper end of the bin.
        images: Number of images.
        confidence: Mean probability of their answers.
        accuracy: Share of their answers that are right.
    """

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float


def reliability(outcome: Outcome, num_bins: int = NUM_BINS) -> tuple[ReliabilityBin, ...]:
    """Sort a predictor's answers by their probability into bins of equal width; empty bins are left out.

    Images whose answer has no finite probability are in no bin.

    Source: Guo et al. 2017, where 15 bins are used.
    """
    sound = np.isfinite(outcome.answer_probabilities)
    probabilities, is_right = outcome.answer_probabilities[sound], ~outcome.is_wrong[sound]
    numbers = np.clip(np.ceil(probabilities * num_bins).astype(np.int64) - 1, 0, num_bins - 1)
    bins = []
    for number in np.unique(numbers).tolist():
        inside = numbers == number
        bins.append(
            ReliabilityBin(
                low=number / num_bins,
                high=(number + 1) / num_bins,
                images=int(inside.sum()),
                confidence=float(min(1.0, probabilities[inside].mean())),
                accuracy=float(is_right[inside].mean()),
            )
        )
    return tuple(bins)


def calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Give the expected calibration error: mean distance of confidence and accuracy, weighted by images."""
    images = sum(part.images for part in bins)
    distance = sum(part.images * abs(part.confidence - part.accuracy) for part in bins)
    return distance / images if images else 0.0


def risk_coverage_area(
    confidences: Float[np.ndarray, " image"], is_wrong: Bool[np.ndarray, " item"]
) -> float:
    """Average the error rate of the surest images over all shares of images that are answered (AURC).

    0 is perfect; without any ranking it is the error rate. Images of one confidence share their errors.

    Raises:
        EmptySplitError: There is no image.
        ShapeError: There is not one confidence for each image.

    Source: Geifman and El-Yaniv 2017, arXiv 1705.08500; Geifman, Uziel and El-Yaniv 2019, arXiv 1805.08206.
    """
    if len(confidences) != len(is_wrong):
        raise ShapeError(
            f"{len(confidences)} confidences for {len(is_wrong)} images; pass one for each."
        )
    if not len(is_wrong):
        raise EmptySplitError("there is no image to rank.")
    order = np.argsort(-confidences, kind="stable")
    _, first, counts = np.unique(-confidences[order], return_index=True, return_counts=True)
    errors = np.add.reduceat(is_wrong[order].astype(np.float64), first) / counts
    shared = np.repeat(errors, counts)
    return float((np.cumsum(shared) / np.arange(1, len(shared) + 1)).mean())
