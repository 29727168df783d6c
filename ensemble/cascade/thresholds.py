"""Thresholds of a cascade: after which step an image stops, for a price of an error in units of compute."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from ensemble.cascade.readings import Readings
from ensemble.cascade.steps import Signal

# Sweeps over all steps; thresholds seldom move after the second.
_SWEEPS = 3
_CUTS = 200


@dataclass(frozen=True)
class Effect:
    """What a cascade does to images, beside the whole ensemble.

    Attributes:
        num_images: Number of images.
        newly_wrong: Images that only the cascade errs on.
        newly_right: Images that only the whole ensemble errs on.
        cost: Mean cost of an image.
        exits: Share of the images that stop after each step.
    """

    num_images: int
    newly_wrong: int
    newly_right: int
    cost: float
    exits: tuple[float, ...]

    @property
    def loss(self) -> float:
        """Error rate of the cascade less that of the whole ensemble."""
        return (self.newly_wrong - self.newly_right) / self.num_images


def fit_thresholds(
    readings: Readings, signal: Signal, error_prices: Sequence[float]
) -> list[Float[np.ndarray, " step"]]:
    """Find the thresholds of least compute and errors together, for a row of prices of an error.

    Each threshold in turn, from the last step to the first, is set to what is best for the images that get so far
    (those that are not sure before) while the others stay: mean cost in units of the whole ensemble's, plus the
    price times the share of images that only the cascade errs on. Those that only the ensemble errs on earn
    nothing: chance makes as many as it unmakes, and a cascade that differs on many images can promise little.

    Args:
        readings: Answers after each step.
        signal: What tells how sure an answer is.
        error_prices: Costs of one error, in costs of one image that takes the whole ensemble; each row of
            thresholds starts from the one before.

    Returns:
        For each price, the least signal at which an image stops after each step: infinite where none does, and
        minus infinity after the last one.
    """
    values = readings.signals[signal]
    num_steps, columns = len(readings.order), np.arange(readings.num_images)
    surest_first = np.argsort(-values, axis=1, kind="stable")
    costs = readings.costs[:, None] / readings.full_cost
    newly_wrong = readings.is_error & ~readings.is_error[-1]
    thresholds, path = np.full(num_steps, np.inf), []
    thresholds[-1] = -np.inf
    for price in error_prices:
        prices = costs + price * newly_wrong
        for _ in range(_SWEEPS):
            before = thresholds.copy()
            for step in range(num_steps - 2, -1, -1):
                reaches = np.all(values[:step] < thresholds[:step, None], axis=0)
                later = values[step + 1 :] >= thresholds[step + 1 :, None]
                gain = prices[step + 1 + later.argmax(axis=0), columns] - prices[step]
                order = surest_first[step][reaches[surest_first[step]]]
                thresholds[step] = _best_cut(values[step][order], gain[order])
            if np.array_equal(before, thresholds):
                break
        path.append(thresholds.copy())
    return path


def exit_steps(
    readings: Readings, signal: Signal, thresholds: Float[np.ndarray, " step"]
) -> Int[np.ndarray, " image"]:
    """Give the step after which each image stops."""
    return (readings.signals[signal] >= thresholds[:, None]).argmax(axis=0)


def effect(readings: Readings, signal: Signal, thresholds: Float[np.ndarray, " step"]) -> Effect:
    """Compare a cascade with the whole ensemble, image by image."""
    steps = exit_steps(readings, signal, thresholds)
    is_error = readings.is_error[steps, np.arange(readings.num_images)]
    full = readings.is_error[-1]
    counts = np.bincount(steps, minlength=len(readings.order))
    return Effect(
        num_images=readings.num_images,
        newly_wrong=int((is_error & ~full).sum()),
        newly_right=int((full & ~is_error).sum()),
        cost=float(readings.costs[steps].mean()),
        exits=tuple((counts / readings.num_images).tolist()),
    )


def _best_cut(values: Float[np.ndarray, " image"], gain: Float[np.ndarray, " image"]) -> float:
    """Give the threshold above which the gains add up to the most; infinity where nothing is gained.

    Only every 200th part of the images is tried: between two of them chance decides.

    Args:
        values: Signals, the highest first.
        gain: What is gained where the image of each signal stops.
    """
    if not len(values):
        return np.inf
    totals = np.cumsum(gain)
    cuts = np.unique(np.linspace(0, len(values) - 1, _CUTS).astype(int))
    # Images of one value stop together.
    cuts = np.unique(np.searchsorted(-values, -values[cuts], side="right") - 1)
    best = cuts[totals[cuts].argmax()]
    return float(values[best]) if totals[best] > 0 else np.inf
