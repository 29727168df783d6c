"""What a search returns: weights over members, and how it came to them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from ensemble.errors import ShapeError
from ensemble.outranking.combine import Combine
from ensemble.outranking.fixed_point import to_units
from ensemble.outranking.weighting import Weighting


@dataclass(frozen=True, eq=False)
class SearchStep:
    """One decision of a search.

    Attributes:
        member: Name of the member whose weight was decided.
        weight: The weight it got; 0 means not selected.
        errors: Errors of the ensemble after this step, images.
        selected: Whether the weight is above zero.
        errors_by_weight: Errors at 0.00, 0.01, …, 1.00; empty where no other weight was tried.
    """

    member: str
    weight: float
    errors: int
    selected: bool
    errors_by_weight: Int[np.ndarray, " weight"]


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Weights over the members of a pool.

    Attributes:
        members: All names, in pool order.
        weights: One for each member as the search found it (1.00, 0.37, …), a multiple of
            0.00001; 0: not selected.
        kind: The search that found them.
        k: The error that was counted is top-k.
        errors: Errors on the images the search was fitted on. Optimistic: measure it on others.
        num_images: Number of those images.
        steps: The decisions in the order they were made; empty where nothing was decided.
        chosen: The search that `auto` took; empty for all others.
        notes: What a reader should know of how the search went, in sentences.
        combine: Whether the weights are of probabilities or of their logarithms. Those of logarithms are
            exponents, no shares: a member with half of all weight does not give half of the answer.
        scale: Sum of the exponents of logarithms, the inverse of a temperature: the one with the lowest
            NLL. It changes no order, and of probabilities it is 1.
    """

    members: tuple[str, ...]
    weights: Float[np.ndarray, " member"]
    kind: str
    k: int
    errors: int
    num_images: int
    steps: tuple[SearchStep, ...] = ()
    chosen: str = ""
    notes: tuple[str, ...] = ()
    combine: Combine = "probabilities"
    scale: float = 1.0

    def __post_init__(self) -> None:
        if len(self.members) != len(self.weights):
            raise ShapeError(
                f"{len(self.weights)} weights for {len(self.members)} members; pass one for each."
            )
        to_units(self.weights)
        self.weights.flags.writeable = False

    @property
    def units(self) -> Int[np.ndarray, " member"]:
        """Give the weights as the integers that the outranking table and `metrics.average` take."""
        return to_units(self.weights)

    @property
    def weighting(self) -> Weighting:
        """Give the weights with what they are weights of."""
        return Weighting(self.units, self.combine, self.scale)

    @property
    def normalised(self) -> Float[np.ndarray, " member"]:
        """Give the weights divided by their sum; no score changes its place."""
        normalised: Float[np.ndarray, " member"] = self.weights / self.weights.sum()
        return normalised

    @property
    def selected(self) -> tuple[str, ...]:
        """Name the members with weight > 0, in pool order."""
        return tuple(m for m, w in zip(self.members, self.weights, strict=True) if w > 0)

    @property
    def search(self) -> str:
        """Name the search that made the weights."""
        return self.chosen or self.kind

    @property
    def error(self) -> float:
        """Give the share of images in error where the search was fitted."""
        return self.errors / self.num_images
