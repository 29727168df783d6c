"""Statistics of comparisons: whether a difference on the same images is more than chance."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Bool, Float

from ensemble.errors import ConfigError, EmptySplitError, ShapeError


@dataclass(frozen=True)
class Interval:
    """A difference of error rates with its bootstrap interval.

    Attributes:
        mean: Error rate of a minus that of b, as observed; a is better where it is below 0.
        low: Lower end of the interval.
        high: Upper end of the interval.
        level: Confidence level of the interval, as 0.95.
        n: Number of images.
        resamples: Number of bootstrap samples.
    """

    mean: float
    low: float
    high: float
    level: float
    n: int
    resamples: int

    @property
    def is_significant(self) -> bool:
        """Tell whether 0 lies outside the interval."""
        return not self.low <= 0 <= self.high


@dataclass(frozen=True)
class MeanSd:
    """Mean and standard deviation of repeated runs.

    Attributes:
        mean: Mean of the runs.
        sd: Standard deviation of the sample; None for a single run.
        n: Number of runs.
    """

    mean: float
    sd: float | None
    n: int

    def __str__(self) -> str:
        if self.sd is None:
            return f"{self.mean:.4g} (single run)"
        return f"{self.mean:.4g} ± {self.sd:.2g} (n = {self.n})"


def paired_bootstrap(
    wrong_a: Bool[np.ndarray, " image"],
    wrong_b: Bool[np.ndarray, " image"],
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Bound the difference of two error rates on the same images by the percentile bootstrap.

    An image contributes -1, 0 or +1, so a resample of all images is one draw of three counts from a
    multinomial distribution: 10,000 resamples of a million images take milliseconds.

    Args:
        wrong_a: Whether a errs on each image.
        wrong_b: Whether b errs on the same images in the same order.
        resamples: Number of bootstrap samples.
        seed: Seed of the resampling.
        level: Confidence level, between 0 and 1.

    Raises:
        ShapeError: The numbers of images of a and b differ.
        EmptySplitError: There is no image.
        ConfigError: The level is not between 0 and 1, or there is no resample.

    Source: Efron and Tibshirani 1993, chapter 13 (percentile interval).
    """
    only_a, only_b, n = _discordant(wrong_a, wrong_b)
    if not 0 < level < 1 or resamples < 1:
        raise ConfigError(
            f"level = {level}, resamples = {resamples}; expected 0 < level < 1 and at least one "
            "resample."
        )
    shares = np.array([only_b, n - only_a - only_b, only_a]) / n
    draws = np.random.default_rng(seed).multinomial(n, shares, size=resamples)
    low, high = np.quantile((draws[:, 2] - draws[:, 0]) / n, [(1 - level) / 2, (1 + level) / 2])
    return Interval((only_a - only_b) / n, float(low), float(high), level, n, resamples)


def mcnemar(wrong_a: Bool[np.ndarray, " image"], wrong_b: Bool[np.ndarray, " image"]) -> float:
    """Test whether a and b err equally often: exact binomial test on the discordant images.

    Returns:
        The two-sided p-value; 1.0 where no image tells a and b apart.

    Raises:
        ShapeError: The numbers of images of a and b differ.
        EmptySplitError: There is no image.

    Source: McNemar 1947, in its exact form.
    """
    only_a, only_b, _ = _discordant(wrong_a, wrong_b)
    if only_a == only_b:
        return 1.0
    # Here, because this import takes most of a second, and most callers do not need it.
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def mean_sd(values: Sequence[float]) -> MeanSd:
    """Average repeated runs; the sd is that of the sample (n - 1).

    Raises:
        EmptySplitError: There is no value.
    """
    if not values:
        raise EmptySplitError("no value to average; pass at least one run.")
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return MeanSd(float(np.mean(values)), sd, len(values))


def spread(values: Sequence[float], sign: str = "") -> str:
    """Format values as mean ± sd, or as the value itself where there is one."""
    summary = mean_sd(list(values))
    text = f"{summary.mean:{sign}.2f}"
    return text if summary.sd is None else f"{text} ± {summary.sd:.2f}"


def error_correlations(
    wrong: Bool[np.ndarray, "image predictor"],
) -> Float[np.ndarray, "predictor predictor"]:
    """Correlate the errors of all pairs of predictors on the same images.

    Args:
        wrong: Whether each predictor errs on each image.

    Returns:
        Pearson's correlations; 0 beside a predictor that errs on no image, or on all.
    """
    centred = wrong - wrong.mean(axis=0)
    spread = np.sqrt((centred**2).sum(axis=0))
    product = np.outer(spread, spread)
    return np.divide(centred.T @ centred, product, out=np.zeros_like(product), where=product > 0)


def effective_number(correlations: Float[np.ndarray, "predictor predictor"]) -> float:
    """Count the uncorrelated predictors whose mean would vary as much as that of the correlated ones.

    The number is m / (1 + (m - 1) r) for m predictors and r, the mean correlation of their pairs: m
    where r is 0 or less, and 1 where all pairs have a correlation of 1.

    Source: Kish 1965 (design effect).
    """
    m = len(correlations)
    if m < 2:
        return float(m)
    mean = (correlations.sum() - np.trace(correlations)) / (m * (m - 1))
    return float(m / (1 + (m - 1) * max(0.0, mean)))


def score_bounds(
    newly_wrong: int, newly_right: int, n: int, level: float = 0.95
) -> tuple[float, float]:
    """Bound the difference of two paired error rates from below and above, each at `level`.

    They stay honest where few images or none are discordant: of n images without any, the upper bound is about z²/n.

    Raises:
        ConfigError: The level is not between 0.5 and 1.

    Source: Tango 1998, Statistics in Medicine 17, 891-908.
    """
    if not 0.5 < level < 1:
        raise ConfigError(f"level = {level}; expected a confidence between 0.5 and 1.")
    z = NormalDist().inv_cdf(level)

    def score(delta: float) -> float:
        a = 2 * n
        b = -newly_wrong - newly_right + (2 * n - newly_wrong + newly_right) * delta
        c = -newly_right * delta * (1 - delta)
        q = (max(b * b - 4 * a * c, 0) ** 0.5 - b) / (2 * a)
        variance = n * (2 * q + delta * (1 - delta))
        away = newly_wrong - newly_right - n * delta
        return away / variance**0.5 if variance > 1e-12 else float(np.sign(away)) * 1e9

    loss = (newly_wrong - newly_right) / n
    return _root(score, z, -1.0, loss), _root(score, -z, loss, 1.0)


def _discordant(
    wrong_a: Bool[np.ndarray, " a"], wrong_b: Bool[np.ndarray, " b"]
) -> tuple[int, int, int]:
    """Count the images on which only a errs, on which only b errs, and all."""
    if len(wrong_a) != len(wrong_b):
        raise ShapeError(
            f"{len(wrong_a)} images against {len(wrong_b)}; a paired comparison needs the same "
            "images."
        )
    if not len(wrong_a):
        raise EmptySplitError("there is no image to compare on.")
    return int((wrong_a & ~wrong_b).sum()), int((wrong_b & ~wrong_a).sum()), len(wrong_a)


def _root(score: Callable[[float], float], target: float, left: float, right: float) -> float:
    """Find where a falling function has a value, by bisection."""
    for _ in range(60):
        middle = (left + right) / 2
        if score(middle) > target:
            left = middle
        else:
            right = middle
    return (left + right) / 2
