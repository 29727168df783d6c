"""Weights with what they are weights of: all that an average of members' predictions depends on."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from ensemble.outranking.combine import Combine


@dataclass(frozen=True, eq=False)
class Weighting:
    """How the members' predictions become one.

    Attributes:
        units: Weight of each member, integers of one unit; only their ratios matter.
        combine: Whether probabilities or their logarithms are averaged.
        scale: What a mean of logarithms is multiplied by before the softmax, the inverse of a
            temperature; probabilities have none.
    """

    units: Int[np.ndarray, " member"]
    combine: Combine = "probabilities"
    scale: float = 1.0

    def equals(self, other: "Weighting") -> bool:
        """Tell whether both give the same average."""
        same = (self.combine, self.scale) == (other.combine, other.scale)
        return same and np.array_equal(self.units, other.units)
