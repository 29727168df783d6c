"""What the parts of a bulk prediction hold."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PartSettings:
    """What a part holds beside image ids, answers and errors.

    Attributes:
        top_k: Number of the most probable classes.
        probabilities: Whether it holds the probability of every class.
    """

    top_k: int = 5
    probabilities: bool = False
