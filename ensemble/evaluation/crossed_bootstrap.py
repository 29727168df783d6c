"""Intervals of differences that were measured several times: by seed, or on halves of the same images."""

import numpy as np
from jaxtyping import Bool, Float, Int

from ensemble.errors import EmptySplitError, ShapeError
from ensemble.statistics import Interval

_LEVEL = 0.95
_BATCH = 20  # samples: a matrix product takes a fraction of the time of products with vectors


def crossed_bootstrap(
    differences: Float[np.ndarray, "comparison split image"],
    is_judged: Bool[np.ndarray, "split image"],
    resamples: int,
    seed: int,
) -> tuple[Interval, ...]:
    """Bound mean differences over several splits at 95 %; splits may judge the same images.

    Splits (seeds, or halves of the same images) and images are resampled independently of each other, so
    that an image counts as often in one split as in all others.

    Args:
        differences: Error of a minus that of b, for each comparison; 0 where an image is not judged.
        is_judged: Whether a split judges an image.
        resamples: Number of bootstrap samples, the same ones for all comparisons.
        seed: Seed of the resampling.

    Raises:
        ShapeError: The differences are of other splits or images than `is_judged`.
        EmptySplitError: A split judges no image.

    Source: Owen 2007, The pigeonhole bootstrap.
    """
    samples = crossed_samples(differences, is_judged, resamples, seed)
    means = differences.sum(axis=(1, 2), dtype=np.float64) / np.count_nonzero(is_judged)
    low, high = np.quantile(samples, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2], axis=1)
    n = int(np.count_nonzero(is_judged.any(axis=0)))
    return tuple(
        Interval(float(mean), float(low[i]), float(high[i]), _LEVEL, n, resamples)
        for i, mean in enumerate(means)
    )


def crossed_samples(
    values: Float[np.ndarray, "row split image"],
    is_judged: Bool[np.ndarray, "split image"],
    resamples: int,
    seed: int,
) -> Float[np.ndarray, "row sample"]:
    """Draw bootstrap samples of means over splits and images, the same ones for all rows.

    The arguments are those of `crossed_bootstrap`, with any value of an image in place of a difference.

    Raises:
        ShapeError: The values are of other splits or images than `is_judged`.
        EmptySplitError: A split judges no image.
    """
    num_splits, num_images = is_judged.shape
    if values.shape[1:] != is_judged.shape:
        raise ShapeError(
            f"values of {values.shape[1:]} splits and images, and {is_judged.shape} that are "
            "judged; pass both of the same."
        )
    if not is_judged.any(axis=1).all():
        raise EmptySplitError("a split judges no image; each needs at least one.")
    rng, parts = np.random.default_rng(seed), []
    rows = values.reshape(-1, num_images).astype(np.float32)
    judged = is_judged.astype(np.float32)
    for first in range(0, resamples, _BATCH):
        size = min(_BATCH, resamples - first)
        images = _drawn(rng, num_images, size).astype(np.float32)
        splits = _drawn(rng, num_splits, size)
        sums = (rows @ images.T).reshape(-1, num_splits, size)
        # A sample may hold no image that is judged: its sum is 0 then, too.
        totals = np.maximum(1.0, np.einsum("sb,bs->b", judged @ images.T, splits))
        parts.append(np.einsum("csb,bs->cb", sums, splits) / totals)
    return np.concatenate(parts, axis=1)


def _drawn(rng: np.random.Generator, size: int, num_samples: int) -> Int[np.ndarray, "sample item"]:
    """Draw with replacement, and tell how often each item was drawn."""
    draws = rng.integers(0, size, (num_samples, size))
    return np.stack([np.bincount(draw, minlength=size) for draw in draws])
