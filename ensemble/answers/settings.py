"""What the parts of a bulk prediction hold."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PartSettings:
    """What a part holds beside image ids, answers and errors.

    Attributes:
        top_k: Number of the most probable classes.
        probabilities: Whether it holds the probability of every class.
        steps: Whether it holds the step of a cascade after which an image stopped.
        sets: Whether it holds conformal sets.
    """

    top_k: int = 5
    probabilities: bool = False
    steps: bool = False
    sets: bool = False
