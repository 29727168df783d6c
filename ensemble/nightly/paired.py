"""Paired tests of a loss on the same images: exact for errors, by bootstrap for means and bins; and Holm's rule.

A loss is what tonight does worse than the baseline: above 0 is worse. Near-duplicate images are one group, which
counts once: a test that took them for independent would raise far too many alarms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Bool, Float, Int

from ensemble.errors import EmptySplitError, ShapeError
from ensemble.statistics import score_bounds

_CHUNK_CELLS = 1 << 22  # weights held at a time while resampling
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Evidence:
    """What the images say of a loss.

    Attributes:
        loss: Tonight's figure less the baseline's.
        p_worse: One-sided p-value of no loss against a loss.
        p_better: One-sided p-value of no gain against a gain.
        low: Lower one-sided bound of the loss at `level`.
        high: Upper one-sided bound of the loss at `level`.
        level: Confidence of each bound, as 0.95.
        n: Number of images.
        variance: Variance of the loss of one image, as far as groups let it be one.
        newly_wrong: Images that only tonight errs on; None where the figure counts no errors.
        newly_right: Images that only the baseline errs on; None where the figure counts no errors.
    """

    loss: float
    p_worse: float
    p_better: float
    low: float
    high: float
    level: float
    n: int
    variance: float
    newly_wrong: int | None = None
    newly_right: int | None = None


def compare_errors(
    before: Bool[np.ndarray, " image"],
    after: Bool[np.ndarray, " after"],
    groups: Int[np.ndarray, " image"] | None = None,
    level: float = 0.95,
) -> Evidence:
    """Compare error indicators image by image: McNemar's exact test, one-sided, and score bounds.

    With groups, the signs of the groups' sums are tested in the same exact way, and the bounds come from their squares.

    Args:
        before: Whether the baseline errs on each image.
        after: Whether tonight errs on the same images in the same order.
        groups: Number of the group of near-duplicates of each image; every image alone if not passed.
        level: Confidence of each one-sided bound.

    Raises:
        ShapeError: The numbers of images differ.
        EmptySplitError: There is no image.
    """
    n = _check(before, after)
    change = after.astype(np.int64) - before.astype(np.int64)
    wrong, right = int((change > 0).sum()), int((change < 0).sum())
    if groups is None or len(np.unique(groups)) == n:
        low, high = score_bounds(wrong, right, n, level)
        p_worse, p_better = exact_p(wrong, right), exact_p(right, wrong)
        variance = (wrong + right) / n
    else:
        sums = np.bincount(_dense(groups), weights=change)
        worse, better = int((sums > 0).sum()), int((sums < 0).sum())
        p_worse, p_better = exact_p(worse, better), exact_p(better, worse)
        variance = float((sums**2).sum() / n)
        half = _NORMAL.inv_cdf(level) * (variance / n) ** 0.5
        low, high = (wrong - right) / n - half, (wrong - right) / n + half
    return Evidence(
        (wrong - right) / n, p_worse, p_better, low, high, level, n, variance, wrong, right
    )


def compare_sums(
    before: Float[np.ndarray, "image column"],
    after: Float[np.ndarray, "after column"],
    groups: Int[np.ndarray, " image"] | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Evidence:
    """Compare figures that are sums of absolute column means, by a paired bootstrap over groups.

    One column of values above 0 is a mean, as the NLL; a column a bin of confidence is the ECE.

    Args:
        before: Contributions of each image to the baseline's columns.
        after: Contributions of the same images tonight.
        groups: Number of the group of near-duplicates of each image; every image alone if not passed.
        level: Confidence of each one-sided bound.
        resamples: Number of bootstrap samples.
        seed: Seed of the resampling.

    Raises:
        ShapeError: The numbers of images differ.
        EmptySplitError: There is no image.

    Source: Efron and Tibshirani 1993; weights are Poisson, which equals drawing images for many images.
    """
    n = _check(before, after)
    columns = before.shape[1]
    both = np.concatenate([before, after], axis=1)
    sizes = np.ones(n)
    if groups is not None:
        index = _dense(groups)
        both = np.stack([np.bincount(index, weights=column) for column in both.T], axis=1)
        sizes = np.bincount(index).astype(np.float64)
    rng, draws = np.random.default_rng(seed), []
    step = max(1, _CHUNK_CELLS // len(sizes))
    for start in range(0, resamples, step):
        weights = rng.poisson(1.0, (min(step, resamples - start), len(sizes))).astype(np.float64)
        totals = weights @ sizes
        means = np.abs(weights @ both) / np.maximum(totals, 1)[:, None]
        draws.append(means[:, columns:].sum(axis=1) - means[:, :columns].sum(axis=1))
    figures = np.abs(both.sum(axis=0)) / n
    loss = float(figures[columns:].sum() - figures[:columns].sum())
    error = float(np.concatenate(draws).std(ddof=1))
    if not error:
        p = (0.0 if loss > 0 else 1.0), (0.0 if loss < 0 else 1.0)
        return Evidence(loss, *p, loss, loss, level, n, 0.0)
    half = _NORMAL.inv_cdf(level) * error
    return Evidence(
        loss=loss,
        p_worse=_NORMAL.cdf(-loss / error),
        p_better=_NORMAL.cdf(loss / error),
        low=loss - half,
        high=loss + half,
        level=level,
        n=n,
        variance=error**2 * n,
    )


def exact_p(more: int, fewer: int) -> float:
    """Give the chance of at least `more` heads in `more + fewer` throws of a fair coin."""
    if not more:
        return 1.0
    # Here, because this import takes most of a second, and most callers do not need it.
    from scipy.special import bdtrc

    return float(bdtrc(more - 1, more + fewer, 0.5))


def holm(p_values: Sequence[float], level: float) -> tuple[bool, ...]:
    """Tell which hypotheses are rejected, so that a false one is among them with chance `level` at most.

    Source: Holm 1979.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    rejected = [False] * len(p_values)
    for rank, index in enumerate(order):
        if p_values[index] > level / (len(p_values) - rank):
            break
        rejected[index] = True
    return tuple(rejected)


def images_to_decide(evidence: Evidence, min_effect: float, power: float = 0.9) -> int:
    """Give the number of images of which a true loss of 0 would be shown to be below `min_effect`."""
    z = _NORMAL.inv_cdf(evidence.level)
    few = z * z / min_effect
    variance = evidence.variance * (z + _NORMAL.inv_cdf(power)) ** 2 / min_effect**2
    return max(evidence.n + 1, int(np.ceil(max(few, variance))))


def _dense(groups: Int[np.ndarray, " image"]) -> Int[np.ndarray, " image"]:
    return np.unique(groups, return_inverse=True)[1].reshape(-1)


def _check(before: np.ndarray, after: np.ndarray) -> int:
    if before.shape != after.shape:
        raise ShapeError(
            f"{len(before)} images before and {len(after)} after; a paired comparison needs the same images."
        )
    if not len(before):
        raise EmptySplitError("there is no image to compare on.")
    return len(before)
