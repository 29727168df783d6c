"""How far two sets of log-probabilities of the same images are apart. Pure."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

TOLERANCE = 1e-3
"""Largest difference of log-probabilities, in nats, that counts as agreement."""


@dataclass(frozen=True)
class Agreement:
    """The difference between expected log-probabilities and others.

    Attributes:
        images: Number of images.
        largest: Largest difference of a log-probability, in nats; not a number if one of them is not.
        answers: Images with another most probable class, near-ties left out.
        near_ties: Images with another most probable class whose two best classes are nearly tied.
    """

    images: int
    largest: float
    answers: int
    near_ties: int


def compare(
    expected: Float[np.ndarray, "image class"],
    other: Float[np.ndarray, "image class"],
    tolerance: float = TOLERANCE,
) -> Agreement:
    """Compare log-probabilities.

    Two classes are nearly tied if a change of each by the tolerance can exchange them.

    Args:
        expected: What should have been computed.
        other: What was computed.
        tolerance: Largest difference that counts as agreement, in nats.
    """
    if not len(expected):
        return Agreement(0, 0.0, 0, 0)
    best, second = -np.sort(-expected, axis=1)[:, :2].T
    differs = expected.argmax(axis=1) != other.argmax(axis=1)
    is_near_tie = best - second <= 2 * tolerance
    return Agreement(
        images=len(expected),
        largest=float(np.abs(expected - other).max()),
        answers=int((differs & ~is_near_tie).sum()),
        near_ties=int((differs & is_near_tie).sum()),
    )
