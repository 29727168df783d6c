"""Fitting a cascade to a promise: an order, a signal and thresholds that lose at most so many errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from statistics import NormalDist

import numpy as np
from jaxtyping import Float, Int

from ensemble.cascade.readings import Readings
from ensemble.cascade.steps import SIGNALS, Order, Signal
from ensemble.cascade.thresholds import Effect, effect, fit_thresholds
from ensemble.errors import ConfigError, ShapeError
from ensemble.outranking.weighting import Weighting
from ensemble.statistics import score_bounds

LEVEL = 0.95
"""Confidence of the promise."""

# Prices of an error from one that lets hardly any image stop early to one that compute outweighs.
_ERROR_PRICES = np.geomspace(1e5, 3, 31).tolist()
_FOLDS = 2
# A signal that is less simple must save this much more compute.
_LEAST_GAIN = 0.01


@dataclass(frozen=True, eq=False)
class Cascade:
    """Members one after the other, and when an image stops.

    Attributes:
        order: Index of the member that each step adds.
        signal: What tells how sure an answer is.
        thresholds: The least signal at which an image stops after each step.
        lose: Share of images that may be lost to the whole ensemble: the promise.
        fitted: What it does to the images that it is fitted on, each judged by the thresholds of the other half.
        bound: Upper bound of the loss on all images, at the confidence `LEVEL`.
        full_cost: Mean cost of an image that takes the whole ensemble.
    """

    order: Order
    signal: Signal
    thresholds: Float[np.ndarray, " step"]
    lose: float
    fitted: Effect
    bound: float
    full_cost: float

    @property
    def speedup(self) -> float:
        """How many times less compute than the whole ensemble takes, on the images that it is fitted on."""
        return self.full_cost / self.fitted.cost


def orders(
    weighting: Weighting, costs: Sequence[float], errors: Sequence[int], num_leads: int = 3
) -> tuple[Order, ...]:
    """Propose orders of the ensemble's members, each also behind a cheap member that has no weight.

    By cost, by weight, and by weight a cost.

    Args:
        weighting: Weights of the ensemble over the pool.
        costs: Cost of each member for one image.
        errors: Errors of each member alone.
        num_leads: Number of members without a weight that are tried as the first step: those that no other
            member beats in both error and cost.
    """
    voters = np.flatnonzero(weighting.units).tolist()
    units = weighting.units
    keys = (
        lambda member: (costs[member], -units[member]),
        lambda member: (-units[member], costs[member]),
        lambda member: (-units[member] / costs[member], costs[member]),
    )
    proposed = [tuple(sorted(voters, key=key)) for key in keys]
    cheapest = min(costs[member] for member in voters)
    others = [
        member
        for member in range(len(costs))
        if not units[member]
        and costs[member] < sum(costs[voter] for voter in voters) / 4
        and not any(
            errors[other] < errors[member] and costs[other] <= costs[member]
            for other in range(len(costs))
        )
    ]
    leads = sorted(others, key=lambda member: abs(np.log(costs[member] / cheapest)))[:num_leads]
    behind_a_lead = ((lead, *order) for lead in leads for order in proposed)
    return tuple(dict.fromkeys([*proposed, *behind_a_lead]))


def fit(readings: Sequence[Readings], lose: float, seed: int = 0) -> Cascade:
    """Fit the cheapest cascade that holds a promise.

    For each order, signal and price of an error, thresholds are fitted on each half of the images and judged on
    the other one. From the highest price downwards, the first cascade whose upper bound of the loss breaks the
    promise ends the row: so many tests in a fixed order need no correction.

    Args:
        readings: Answers of the same images in one order or several.
        lose: Share of images that may be lost to the whole ensemble, above 0, as 0.001 for 0.1 points.
        seed: Seed of the halves.

    Raises:
        ConfigError: So few images can promise no loss that is so small.
        ShapeError: There is no order.

    Source: Angelopoulos, Bates, Candès, Jordan and Lei, Learn then Test, arXiv 2110.01052; thresholds on the images
    that get so far: Window-based early exits, arXiv 2303.08010.
    """
    if not readings:
        raise ShapeError(
            "there is no order to fit a cascade to; pass the readings of one at least."
        )
    num_images = readings[0].num_images
    _check_promise(lose, num_images)
    best: tuple[Readings, Signal, int, Effect, float] | None = None
    for signal in SIGNALS:
        for reading in readings:
            chosen = _cheapest(reading, signal, lose, seed)
            if chosen is None:
                continue
            # What is simpler comes first, and stays unless another one saves more.
            is_simpler = best is None or signal == best[1]
            if best is None or chosen[1].cost < best[3].cost * (
                1 if is_simpler else 1 - _LEAST_GAIN
            ):
                best = reading, signal, *chosen
    if best is None:
        raise ConfigError(
            f"no cascade on {num_images} images can promise to lose at most {lose:.3%} of them. "
            "Allow a greater loss, or give more images."
        )
    reading, signal, number, judged, bound = best
    thresholds = fit_thresholds(reading, signal, _ERROR_PRICES[: number + 1])[-1]
    return Cascade(reading.order, signal, thresholds, lose, judged, bound, reading.full_cost)


def fit_to_error(readings: Sequence[Readings], max_error: float, seed: int = 0) -> Cascade:
    """Fit the cheapest cascade whose error rate is at most a given one, as that of the best member alone.

    Args:
        readings: Answers of the same images in one order or several.
        max_error: Greatest error rate, on thresholds of the other half of the images.
        seed: Seed of the halves.

    Raises:
        ConfigError: No cascade errs so seldom, the whole ensemble neither.
    """
    best: tuple[Readings, Signal, int, Effect] | None = None
    for reading in readings:
        full_error = float(reading.is_error[-1].mean())
        for signal in SIGNALS:
            for number, judged in enumerate(_cross_fitted(reading, signal, _folds(reading, seed))):
                if full_error + judged.loss <= max_error and (
                    best is None or judged.cost < best[3].cost
                ):
                    best = reading, signal, number, judged
    if best is None:
        raise ConfigError(f"no cascade errs on at most {max_error:.3%}. Allow a greater error.")
    reading, signal, number, judged = best
    _, bound = score_bounds(judged.newly_wrong, judged.newly_right, judged.num_images, LEVEL)
    thresholds = fit_thresholds(reading, signal, _ERROR_PRICES[: number + 1])[-1]
    lose = max_error - float(reading.is_error[-1].mean())
    return Cascade(reading.order, signal, thresholds, lose, judged, bound, reading.full_cost)


def frontier(readings: Readings, signal: Signal, seed: int = 0) -> tuple[Effect, ...]:
    """Judge the cascades of one order at all prices of an error, each half by the thresholds of the other one."""
    return tuple(_cross_fitted(readings, signal, _folds(readings, seed)))


def _folds(readings: Readings, seed: int) -> Int[np.ndarray, " image"]:
    return np.random.default_rng(seed).permutation(readings.num_images) % _FOLDS


def _cheapest(
    readings: Readings, signal: Signal, lose: float, seed: int
) -> tuple[int, Effect, float] | None:
    """Find the cheapest cascade of the row that holds the promise: its number, its effect and its bound."""
    chosen = None
    for number, judged in enumerate(_cross_fitted(readings, signal, _folds(readings, seed))):
        _, bound = score_bounds(judged.newly_wrong, judged.newly_right, judged.num_images, LEVEL)
        if bound > lose:
            break
        if chosen is None or judged.cost < chosen[1].cost:
            chosen = number, judged, bound
    return chosen


def _cross_fitted(
    readings: Readings, signal: Signal, folds: Int[np.ndarray, " image"]
) -> list[Effect]:
    halves = [readings.take(np.flatnonzero(folds == fold)) for fold in range(_FOLDS)]
    paths = [fit_thresholds(half, signal, _ERROR_PRICES) for half in halves]
    return [
        _sum(
            [
                effect(half, signal, thresholds)
                for half, thresholds in zip(halves, other, strict=True)
            ]
        )
        # Each half is judged by the thresholds of the other one.
        for other in zip(*reversed(paths), strict=True)
    ]


def _sum(effects: Sequence[Effect]) -> Effect:
    total = sum(each.num_images for each in effects)
    shares = np.array([each.num_images / total for each in effects])
    return Effect(
        num_images=total,
        newly_wrong=sum(each.newly_wrong for each in effects),
        newly_right=sum(each.newly_right for each in effects),
        cost=float(shares @ [each.cost for each in effects]),
        exits=tuple((shares @ np.array([each.exits for each in effects])).tolist()),
    )


def _check_promise(lose: float, num_images: int) -> None:
    if not 0 < lose < 1:
        raise ConfigError(f"lose is {lose}; expected a share of the images between 0 and 1.")
    # Without one image lost, the bound is about z²/n.
    least = NormalDist().inv_cdf(LEVEL) ** 2 / num_images
    if least > lose:
        needed = ceil(NormalDist().inv_cdf(LEVEL) ** 2 / lose) + 1
        raise ConfigError(
            f"{num_images} images cannot show that a cascade loses at most {lose:.3%} of them: without one lost "
            f"image the bound is {least:.3%}. Expected {needed} images or more, or a promise of {least * 1.01:.3%}."
        )
