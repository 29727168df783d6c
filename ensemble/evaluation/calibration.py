"""Temperatures: one number that makes probabilities as sure as they are right.

Probabilities become p^(1/T), divided by their sum. The order of the classes stays, but for those
below 2^-30, which become equal; what changes is how much one member's certainty weighs in an
average, and the NLL. A temperature is kept only if it lowers the NLL on images that it was not
fitted on.

Source: Guo et al. 2017.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from ensemble.errors import EmptySplitError
from ensemble.images.index import ImageIndex
from ensemble.members.member import Member
from ensemble.outranking.fixed_point import PROBABILITY_FLOOR
from ensemble.search.crossfit import stratified_folds
from ensemble.table.logit_table import LogitTable

HOTTEST, COLDEST = 20.0, 0.05
_ROUNDS = 40  # each keeps 0.62 of the bracket: 1e-8 of it is left
_BLOCK_IMAGES = 512
_CALIBRATION_IMAGES = 5000  # one number is fitted, in eighty passes over all of them
_LOWEST = float(np.log(PROBABILITY_FLOOR))


@dataclass(frozen=True)
class Temperature:
    """A temperature and what speaks for it.

    Attributes:
        value: The temperature; 1.0 where none helped on held-out images.
        nll_before: NLL at a temperature of 1, nats.
        nll_after: NLL with temperatures fitted on the other half of the images, nats.
        is_kept: Whether the held-out NLL fell.
        n: Number of images that were used.
    """

    value: float
    nll_before: float
    nll_after: float
    is_kept: bool
    n: int


def calibrate(
    log_probabilities: Float[np.ndarray, "image class"],
    labels: Int[np.ndarray, " image"],
    seed: int = 0,
) -> Temperature:
    """Fit a temperature, and keep it only if two-fold held-out NLL falls.

    Args:
        log_probabilities: Rows of one member, or of an average; those with NaN or +inf are left out.
        labels: Class index of each image.
        seed: Seed of the two folds.

    Raises:
        EmptySplitError: There are fewer than two usable images.
    """
    sound = np.flatnonzero(log_probabilities.max(axis=1, initial=-np.inf) < np.inf)
    logs, labels = log_probabilities[sound], labels[sound]
    if len(labels) < 2:
        raise EmptySplitError(f"{len(labels)} usable images; a temperature needs at least two.")
    folds = stratified_folds(labels, 2, seed)
    after = 0.0
    for fold in (0, 1):
        temperature = fit_temperature(logs[folds != fold], labels[folds != fold])
        held_out = folds == fold
        after += nll_at(logs[held_out], labels[held_out], temperature) * int(held_out.sum())
    before, after = nll_at(logs, labels, 1.0), after / len(labels)
    is_kept = after < before
    value = fit_temperature(logs, labels) if is_kept else 1.0
    return Temperature(value, before, after, is_kept, len(labels))


def fit_temperature(
    log_probabilities: Float[np.ndarray, "image class"], labels: Int[np.ndarray, " image"]
) -> float:
    """Find the temperature in [0.05, 20] with the least NLL, by golden sections: it is convex in 1/T."""
    low, high = 1 / HOTTEST, 1 / COLDEST
    ratio = (np.sqrt(5) - 1) / 2
    inner = [high - ratio * (high - low), low + ratio * (high - low)]
    values = [nll_at(log_probabilities, labels, float(1 / inverse)) for inverse in inner]
    for _ in range(_ROUNDS):
        if values[0] <= values[1]:
            high, inner[1], values[1] = inner[1], inner[0], values[0]
            inner[0] = high - ratio * (high - low)
            values[0] = nll_at(log_probabilities, labels, float(1 / inner[0]))
        else:
            low, inner[0], values[0] = inner[0], inner[1], values[1]
            inner[1] = low + ratio * (high - low)
            values[1] = nll_at(log_probabilities, labels, float(1 / inner[1]))
    return float(2 / (low + high))


def apply_temperature(
    log_probabilities: Float[np.ndarray, "image class"], temperature: float
) -> Float[np.ndarray, "image class"]:
    """Give log-probabilities at another temperature; at 1.0 they are returned unchanged.

    A probability below 2^-30 counts as 2^-30, or a zero would stay a zero at any temperature.
    """
    if temperature == 1.0:
        return log_probabilities
    scaled = np.maximum(log_probabilities, _LOWEST) / log_probabilities.dtype.type(temperature)
    with np.errstate(invalid="ignore"):  # a broken row stays broken
        scaled -= scaled.max(axis=1, keepdims=True)
        scaled -= np.log(np.exp(scaled).sum(axis=1, keepdims=True))
    return np.asarray(scaled)


def at_temperature(
    probabilities: Float[np.ndarray, "image class"], temperature: float
) -> Float[np.ndarray, "image class"]:
    """Give probabilities at another temperature, as `apply_temperature` does."""
    if temperature == 1.0:
        return probabilities
    with np.errstate(divide="ignore"):
        return np.asarray(np.exp(apply_temperature(np.log(probabilities), temperature)))


def nll_at(
    log_probabilities: Float[np.ndarray, "image class"],
    labels: Int[np.ndarray, " image"],
    temperature: float,
) -> float:
    """Average -log of the label's probability at a temperature, nats."""
    total = 0.0
    for first in range(0, len(labels), _BLOCK_IMAGES):
        part = slice(first, first + _BLOCK_IMAGES)
        logs = apply_temperature(log_probabilities[part].astype(np.float64), temperature)
        own = logs[np.arange(len(logs)), labels[part]]
        total -= float(np.maximum(own, _LOWEST).sum())
    return total / len(labels)


def calibrate_members(
    table: LogitTable, members: Sequence[Member], images: ImageIndex, seed: int
) -> tuple[Member, ...]:
    """Give each member the temperature that suits it on some images; 1.0 where none helps.

    Args:
        table: The logit table, with the rows of all members.
        members: The pool.
        images: Images of the search split; of more than 5,000, as many are drawn.
        seed: Seed of the folds and of the draw.

    Raises:
        EmptySplitError: A member has fewer than two rows without NaN.
    """
    images = calibration_images(images, seed)
    if len(images) < 2:
        return tuple(members)

    def temperature(member: Member) -> float:
        return calibrate(table.read(member.column, images.image_ids), images.labels, seed).value

    return tuple(replace(member, temperature=temperature(member)) for member in members)


def calibration_images(images: ImageIndex, seed: int) -> ImageIndex:
    """Draw as many images as one temperature needs, 5,000 at the most; in their order.

    Args:
        images: Images of the search split.
        seed: Seed of the draw.
    """
    if len(images) <= _CALIBRATION_IMAGES:
        return images
    chosen = np.random.default_rng(seed).permutation(len(images))[:_CALIBRATION_IMAGES]
    return images.take(np.sort(chosen))
