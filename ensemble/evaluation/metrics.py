"""Errors and losses of dense scores: how an ensemble is judged on images that no search has seen.

Class c outranks the label y iff its score is greater, or equal with c < y: the order of a stable
sort, and argmax at k = 1. A row with NaN or +inf is broken: its label ranks last, so it is a miss
for every k. `average` is the brute force to the outranking table: both agree image by image. So are
the `scores` of a mean of logarithms, whose `pooled` probabilities may tie where the scores do not.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from ensemble.errors import ConfigError, EmptySplitError, ShapeError
from ensemble.outranking.fixed_point import PROBABILITY_FLOOR, FixedPoint, checked_units
from ensemble.outranking.weighting import Weighting

_BLOCK_IMAGES = 256  # of 1000 classes: the temporaries stay in cache


def average(
    log_probabilities: Float[np.ndarray, "member image class"]
    | Sequence[Float[np.ndarray, "image class"]],
    units: Int[np.ndarray, " member"],
) -> Float[np.ndarray, "image class"]:
    """Average the members' probabilities with fixed-point weights.

    Args:
        log_probabilities: Log of the softmax averaged over views.
        units: Weight of each member as `Ensemble.units` gives them; any integers in these ratios
            give the same order.

    Returns:
        Probabilities in float64, ordered and tied exactly as the integer scores are: these are
        below 2^52, so two of them stay apart when divided. NaN where a member with a weight has NaN
        or +inf.

    Raises:
        ShapeError: There is not one weight for each member.
        ConfigError: The weights are negative, all zero, or too large for exact scores.
    """
    return pooled(log_probabilities, Weighting(units))


def scores(
    log_probabilities: Float[np.ndarray, "member image class"]
    | Sequence[Float[np.ndarray, "image class"]],
    weighting: Weighting,
) -> Float[np.ndarray, "image class"]:
    """Add up the members' fixed-point probabilities or logarithms, each times its weight.

    Args:
        log_probabilities: Log of the softmax averaged over views.
        weighting: Weights, and what they are weights of.

    Returns:
        Integers in float64, exact: the order of classes, and ties. NaN where a member with a weight has
        NaN or +inf.

    Raises:
        ShapeError: There is not one weight for each member.
        ConfigError: The weights are negative, all zero, or too large for exact scores.
    """
    columns = list(log_probabilities)
    weights = checked_units(weighting.units, len(columns), weighting.combine)
    point = FixedPoint.of(len(columns), weighting.combine)
    total = np.zeros(columns[0].shape)
    for first in range(0, len(total), _BLOCK_IMAGES):
        part = slice(first, first + _BLOCK_IMAGES)
        for member in np.flatnonzero(weights):
            block = columns[member][part]
            total[part] += point.quantise(block) * float(weights[member])
            total[part][~(block.max(axis=1) < np.inf)] = np.nan
    return total


def pooled(
    log_probabilities: Float[np.ndarray, "member image class"]
    | Sequence[Float[np.ndarray, "image class"]],
    weighting: Weighting,
) -> Float[np.ndarray, "image class"]:
    """Give the probabilities that members have together: of a mean of probabilities or of logarithms.

    Raises:
        ShapeError: There is not one weight for each member.
        ConfigError: The weights are negative, all zero, or too large for exact scores.
    """
    columns = list(log_probabilities)
    return to_probabilities(scores(columns, weighting), len(columns), weighting)


def to_probabilities(
    scores: Float[np.ndarray, "image class"], num_members: int, weighting: Weighting
) -> Float[np.ndarray, "image class"]:
    """Turn the `scores` of a weighting into probabilities.

    Args:
        scores: Integers in float64.
        num_members: Members that the scores are of, those without a weight included.
        weighting: Weights, and what they are weights of.
    """
    point = FixedPoint.of(num_members, weighting.combine)
    means = scores * 2.0**-point.bits
    means /= weighting.units.sum()
    if weighting.combine == "probabilities":
        return means
    means -= means.max(axis=1, keepdims=True)
    means *= weighting.scale
    np.exp(means, out=means)
    means /= means.sum(axis=1, keepdims=True)
    return means


def ranks(
    scores: Float[np.ndarray, "image class"], labels: Int[np.ndarray, " image"]
) -> Int[np.ndarray, " image"]:
    """Count for each image the classes that outrank its label: 0 is a top-1 hit.

    Raises:
        ShapeError: There is not one label for each row, or a label is not a class.
    """
    _check(scores, labels)
    result = np.empty(len(labels), dtype=np.int64)
    for first in range(0, len(labels), _BLOCK_IMAGES):
        part = slice(first, first + _BLOCK_IMAGES)
        result[part] = _block_ranks(scores[part], labels[part])
    return result


def is_top_k_error(
    scores: Float[np.ndarray, "image class"], labels: Int[np.ndarray, " image"], k: int
) -> Bool[np.ndarray, " image"]:
    """Tell for each image whether its label is not among the k highest scores.

    Raises:
        ConfigError: k is not below the number of classes, so that nothing could be in error.
        ShapeError: There is not one label for each row, or a label is not a class.
    """
    if not 1 <= k < scores.shape[1]:
        raise ConfigError(
            f"k = {k} with {scores.shape[1]} classes: nothing can be in error; "
            f"k must be between 1 and {scores.shape[1] - 1}."
        )
    return ranks(scores, labels) >= k


def top_k_error_count(
    scores: Float[np.ndarray, "image class"], labels: Int[np.ndarray, " image"], k: int
) -> int:
    """Count the images whose label is not among the k highest; raises as `is_top_k_error` does."""
    return int(is_top_k_error(scores, labels, k).sum())


def top_k_error(
    scores: Float[np.ndarray, "image class"], labels: Int[np.ndarray, " image"], k: int
) -> float:
    """Give the share of images whose label is not among the k highest scores.

    Raises:
        EmptySplitError: There is no image.
        ConfigError: k is not below the number of classes.
        ShapeError: There is not one label for each row, or a label is not a class.
    """
    _check_not_empty(labels)
    return top_k_error_count(scores, labels, k) / len(labels)


def nll(
    probabilities: Float[np.ndarray, "image class"], labels: Int[np.ndarray, " image"]
) -> float:
    """Average -log of the label's probability (nats).

    Below 2^-30 a probability counts as 2^-30 (20.8 nats): one zero would hide all other images.
    `num_floored` says how many did; a broken row is one of them.

    Raises:
        EmptySplitError: There is no image.
        ShapeError: There is not one label for each row, or a label is not a class.
    """
    _check_not_empty(labels)
    own = _label_probabilities(probabilities, labels)
    return float(-np.log(np.maximum(own, PROBABILITY_FLOOR)).mean())


def num_floored(
    probabilities: Float[np.ndarray, "image class"], labels: Int[np.ndarray, " image"]
) -> int:
    """Count the images whose label has less than 2^-30, broken rows included; raises as `ranks`."""
    return int(np.count_nonzero(_label_probabilities(probabilities, labels) < PROBABILITY_FLOOR))


def ece(
    probabilities: Float[np.ndarray, "image class"],
    labels: Int[np.ndarray, " image"],
    num_bins: int = 15,
) -> float:
    """Average |accuracy - confidence| of the top class over bins, by images (ECE).

    Args:
        probabilities: Broken rows have no confidence and are left out.
        labels: Class index of each image.
        num_bins: Bins of equal width over confidence, each closed on the right.

    Raises:
        EmptySplitError: There is no image, or every row is broken.
        ShapeError: There is not one label for each row, or a label is not a class.

    Source: Naeini et al. 2015; 15 bins as in Guo et al. 2017.
    """
    _check(probabilities, labels)
    sound = ~_broken_rows(probabilities)
    _check_not_empty(labels[sound])
    confidence = probabilities[sound].max(axis=1).astype(np.float64)
    is_right = probabilities[sound].argmax(axis=1) == labels[sound]
    bins = np.clip(np.ceil(confidence * num_bins) - 1, 0, num_bins - 1).astype(np.int64)
    gap = np.bincount(bins, weights=is_right - confidence, minlength=num_bins)
    return float(np.abs(gap).sum() / len(confidence))


def _block_ranks(
    scores: Float[np.ndarray, "image class"], labels: Int[np.ndarray, " image"]
) -> Int[np.ndarray, " image"]:
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    comes_first = np.arange(scores.shape[1]) < labels[:, None]
    outranks = (scores > own) | ((scores == own) & comes_first)
    result = np.asarray(np.count_nonzero(outranks, axis=1))
    result[_broken_rows(scores)] = scores.shape[1]
    return result


def _broken_rows(scores: Float[np.ndarray, "image class"]) -> Bool[np.ndarray, " image"]:
    return np.asarray(~(scores.max(axis=1) < np.inf))


def _label_probabilities(
    probabilities: Float[np.ndarray, "image class"], labels: Int[np.ndarray, " image"]
) -> Float[np.ndarray, " image"]:
    _check(probabilities, labels)
    own = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    return np.where(_broken_rows(probabilities), 0.0, own.astype(np.float64))


def _check(scores: Float[np.ndarray, "image class"], labels: Int[np.ndarray, " item"]) -> None:
    num_images, num_classes = scores.shape
    if len(labels) != num_images:
        raise ShapeError(
            f"{len(labels)} labels for {num_images} rows of scores; pass one for each."
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ShapeError(
            f"labels run from {labels.min()} to {labels.max()}, the scores have {num_classes} "
            "classes; check the label map of the data."
        )


def _check_not_empty(labels: Int[np.ndarray, " item"]) -> None:
    if not len(labels):
        raise EmptySplitError("there is no image with usable scores to average over.")
