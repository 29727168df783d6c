"""Conformal sets: classes that hold the label with a stated probability; and how well confidence ranks answers.

Pure NumPy, on the probabilities of a single predictor: a member, or an ensemble.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from ensemble.errors import ConfigError, EmptySplitError, ShapeError

# Of RAPS: every class beyond the first two costs so much more, so that hard images do not get hundreds of classes.
_PENALTY, _FREE_CLASSES = 0.01, 2


@dataclass(frozen=True)
class ConformalSets:
    """How classes are put together to a set that holds the label with probability `coverage`.

    Classes are taken from the most probable one on, until their probabilities, with what each costs, pass the
    threshold; the last one is taken or not by a draw that depends on the image alone.

    Attributes:
        coverage: Least probability that the set of a new image holds its label.
        threshold: What probabilities and costs add up to.
        num_images: Number of the images that it was fitted on.

    Source: Romano, Sesia and Candès 2020 (APS, arXiv 2006.02544); Angelopoulos, Bates, Malik and Jordan 2021 (RAPS,
    arXiv 2009.14193).
    """

    coverage: float
    threshold: float
    num_images: int

    def of(
        self, probabilities: Float[np.ndarray, "image class"], seed: int = 0
    ) -> Bool[np.ndarray, "image class"]:
        """Tell for each image which classes its set has; the most probable one always belongs to it.

        Args:
            probabilities: Probabilities of each image.
            seed: Seed of the draws.
        """
        order, totals, own = _sorted_totals(probabilities)
        draws = np.random.default_rng(seed).random((len(probabilities), 1))
        is_in = totals - draws * own <= self.threshold
        is_in[:, 0] = True
        sets = np.zeros(probabilities.shape, dtype=bool)
        np.put_along_axis(sets, order, is_in, axis=1)
        return sets


def fit_conformal(
    probabilities: Float[np.ndarray, "image class"],
    labels: Int[np.ndarray, " item"],
    coverage: float = 0.9,
    seed: int = 0,
) -> ConformalSets:
    """Fit sets on images that the predictor was not trained on.

    Args:
        probabilities: Probabilities of each image.
        labels: Label of each image.
        coverage: Least probability that a set holds the label.
        seed: Seed of the draws.

    Raises:
        ConfigError: The coverage is not between 0 and 1, or so few images cannot promise it.
        EmptySplitError: There is no image.
        ShapeError: There is not one label for each image.
    """
    if not 0 < coverage < 1:
        raise ConfigError(f"coverage is {coverage}; expected a probability between 0 and 1.")
    if len(labels) != len(probabilities):
        raise ShapeError(
            f"{len(labels)} labels for {len(probabilities)} images; pass one for each."
        )
    n = len(labels)
    if not n:
        raise EmptySplitError("there is no image to fit conformal sets on.")
    rank = int(np.ceil((n + 1) * coverage))
    if rank > n:
        needed = int(np.ceil(coverage / (1 - coverage)))
        raise ConfigError(
            f"{n} images cannot promise a coverage of {coverage:g}. Expected {needed} images or more, or a lower "
            "coverage."
        )
    order, totals, own = _sorted_totals(probabilities)
    draws = np.random.default_rng(seed).random((n, 1))
    scores = totals - draws * own
    place = (order == labels[:, None]).argmax(axis=1)
    label_scores = scores[np.arange(n), place]
    # The first class belongs to every set, whatever it was drawn.
    label_scores[place == 0] = np.minimum(label_scores[place == 0], 0)
    return ConformalSets(coverage, float(np.partition(label_scores, rank - 1)[rank - 1]), n)


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


def _sorted_totals(
    probabilities: Float[np.ndarray, "image class"],
) -> tuple[
    Int[np.ndarray, "image class"],
    Float[np.ndarray, "image class"],
    Float[np.ndarray, "image class"],
]:
    """Sort classes by probability; add up probabilities and costs to each; and what each one adds."""
    order = np.argsort(-probabilities, axis=1, kind="stable")
    own = np.take_along_axis(probabilities, order, axis=1).astype(np.float64)
    own += _PENALTY * (np.arange(own.shape[1]) >= _FREE_CLASSES)
    return order, np.cumsum(own, axis=1), own
