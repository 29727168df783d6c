"""Conformal sets: classes that hold the label with a stated probability.

Pure NumPy, on the probabilities of a single predictor: a member, or an ensemble.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from ensemble.errors import ConfigError, EmptySplitError, ShapeError

# Of RAPS: every class beyond the first two costs so much more, so that hard images do not get hundreds of classes.
_PENALTY, _FREE_CLASSES = 0.01, 2
_BLOCK_IMAGES = 1024


@dataclass(frozen=True)
class ConformalSets:
    """How classes are put together to a set that holds the label with probability `coverage`.

    Classes are taken from the most probable one on, while their probabilities, with what each costs, add up to no
    more than the threshold; the most probable one always belongs to the set. Nothing is drawn, so that an image has
    the same set whenever and with whatever other images it is answered.

    Attributes:
        coverage: Least probability that the set of a new image holds its label.
        threshold: What probabilities and costs add up to.
        num_images: Number of the images that it was fitted on.

    Source: Romano, Sesia and Candès 2020 (APS, arXiv 2006.02544); Angelopoulos, Bates, Malik and Jordan 2021 (RAPS,
    arXiv 2009.14193), without their draws.
    """

    coverage: float
    threshold: float
    num_images: int

    def of(
        self, probabilities: Float[np.ndarray, "image class"]
    ) -> Bool[np.ndarray, "image class"]:
        """Tell for each image which classes its set has."""
        order, totals = _sorted_totals(probabilities)
        return _unsorted(order, totals <= self.threshold)


@dataclass(frozen=True)
class JudgedSets:
    """What sets hold on images that they were not fitted on, beside those of a naive threshold.

    The naive sets take classes until their probabilities add up to the coverage, as if these were exact.

    Attributes:
        sets: The sets.
        num_images: Number of images.
        coverage: Share of the sets that hold the label.
        mean_size: Mean number of classes of a set.
        naive_coverage: The same share for the naive sets.
        naive_mean_size: The same number for the naive sets.
    """

    sets: ConformalSets
    num_images: int
    coverage: float
    mean_size: float
    naive_coverage: float
    naive_mean_size: float


class SetCounts:
    """Counts what sets hold on images that they were not fitted on, some images at a time.

    Args:
        sets: The sets.
    """

    def __init__(self, sets: ConformalSets) -> None:
        self._sets, self._num_images = sets, 0
        # Of the sets and of the naive ones: those that hold the label, and all their classes.
        self._counts = np.zeros((2, 2))

    def add(
        self, probabilities: Float[np.ndarray, "image class"], labels: Int[np.ndarray, " image"]
    ) -> None:
        """Count the sets of some images."""
        self._num_images += len(labels)
        for part in _blocks(len(labels)):
            block, own = probabilities[part], labels[part]
            order = np.argsort(-block, axis=1, kind="stable")
            above = np.cumsum(np.take_along_axis(block, order, axis=1), axis=1)
            # A class belongs to the naive set if those before it do not add up to the coverage yet.
            above = np.pad(above, ((0, 0), (1, 0)))[:, :-1]
            naive = _unsorted(order, above < self._sets.coverage)
            for row, is_in in enumerate((self._sets.of(block), naive)):
                self._counts[row] += is_in[np.arange(len(own)), own].sum(), is_in.sum()

    def judge(self) -> JudgedSets:
        """Give what was counted as shares and means.

        Raises:
            EmptySplitError: There was no image.
        """
        if not self._num_images:
            raise EmptySplitError("there is no image to judge conformal sets on.")
        shares = self._counts / self._num_images
        (coverage, size), (naive_coverage, naive_size) = shares.tolist()
        return JudgedSets(self._sets, self._num_images, coverage, size, naive_coverage, naive_size)


def fit_conformal(
    probabilities: Float[np.ndarray, "image class"],
    labels: Int[np.ndarray, " item"],
    coverage: float = 0.9,
) -> ConformalSets:
    """Fit sets on images that the predictor was not trained on.

    Args:
        probabilities: Probabilities of each image.
        labels: Label of each image.
        coverage: Least probability that a set holds the label.

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
    rank = _rank(n, coverage)
    if rank > n:
        needed = int(np.ceil(coverage / (1 - coverage)))
        raise ConfigError(
            f"{n} images cannot promise a coverage of {coverage:g}. Expected {needed} images or more, or a lower "
            "coverage."
        )
    scores = np.concatenate([_label_scores(probabilities[p], labels[p]) for p in _blocks(n)])
    return ConformalSets(coverage, float(np.partition(scores, rank - 1)[rank - 1]), n)


def fit_sets(
    probabilities: Float[np.ndarray, "image class"],
    labels: Int[np.ndarray, " item"],
    coverage: float | None,
) -> ConformalSets | None:
    """Fit sets as `fit_conformal` does, where they are wanted and so many images can promise the coverage.

    Args:
        probabilities: Probabilities of each image.
        labels: Label of each image.
        coverage: Least probability that a set holds the label; None for no sets.

    Raises:
        ConfigError: The coverage is not between 0 and 1.
        EmptySplitError: There is no image.
        ShapeError: There is not one label for each image.
    """
    if coverage is None or _rank(len(labels), coverage) > len(labels):
        return None
    return fit_conformal(probabilities, labels, coverage)


def _rank(num_images: int, coverage: float) -> int:
    return int(np.ceil((num_images + 1) * coverage))


def judge_sets(
    sets: ConformalSets,
    windows: Iterable[tuple[Float[np.ndarray, "_ _"], Int[np.ndarray, " _"]]],
) -> JudgedSets:
    """Judge sets on images that they were not fitted on.

    Args:
        sets: The sets.
        windows: Probabilities and labels, some images at a time.

    Raises:
        EmptySplitError: There is no image.
    """
    counts = SetCounts(sets)
    for probabilities, labels in windows:
        counts.add(probabilities, labels)
    return counts.judge()


def _label_scores(
    probabilities: Float[np.ndarray, "image class"], labels: Int[np.ndarray, " image"]
) -> Float[np.ndarray, " image"]:
    """Give the threshold from which on the set of each image holds its label."""
    order, totals = _sorted_totals(probabilities)
    place = (order == labels[:, None]).argmax(axis=1)
    scores = totals[np.arange(len(labels)), place]
    # The most probable class belongs to every set; a broken row, of NaN, never holds its label.
    return np.where(np.isnan(scores), np.inf, np.where(place == 0, 0.0, scores))


def _sorted_totals(
    probabilities: Float[np.ndarray, "image class"],
) -> tuple[Int[np.ndarray, "image class"], Float[np.ndarray, "image class"]]:
    """Sort classes by probability, and add up probabilities and costs to each."""
    order = np.argsort(-probabilities, axis=1, kind="stable")
    own = np.take_along_axis(probabilities, order, axis=1).astype(np.float64)
    own += _PENALTY * (np.arange(own.shape[1]) >= _FREE_CLASSES)
    return order, np.cumsum(own, axis=1)


def _unsorted(
    order: Int[np.ndarray, "image class"], is_in: Bool[np.ndarray, "image class"]
) -> Bool[np.ndarray, "image class"]:
    is_in[:, 0] = True
    sets = np.zeros(order.shape, dtype=bool)
    np.put_along_axis(sets, order, is_in, axis=1)
    return sets


def _blocks(num_images: int) -> Iterator[slice]:
    for start in range(0, num_images, _BLOCK_IMAGES):
        yield slice(start, start + _BLOCK_IMAGES)
