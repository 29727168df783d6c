"""What both reports say of weights: how they were found, why, and how much they can be trusted."""

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveInt, StringConstraints

from ensemble.config import Config

Count = NonNegativeInt
Fraction = Annotated[float, Field(ge=0, le=1)]
# JSON has no infinity: a report that holds one could not be read back.
Finite = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# Longer images do not belong into a page that people send around.
Base64Png = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]+={0,2}$", max_length=65536)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class MemberLine(Config):
    """Why a member has the weight it has; errors are counted on the search images."""

    name: str
    family: str
    weight: Finite
    errors: NonNegativeInt
    gain: int | None
    loss: int | None
    nearest: str | None
    correlation: FiniteFloat | None
    reason: str
    cost: Finite | None
    temperature: Finite | None
    frequency: Fraction | None
    """Share of the bootstrap samples that select it."""
    share_low: Fraction | None
    """2.5 % quantile of its share of all weights."""
    share_high: Fraction | None


class StabilitySummary(Config):
    """What resampling the search images says."""

    resamples: PositiveInt
    same_selection: Fraction
    in_bag_error: Fraction
    out_of_bag_error: Fraction | None


class FrontierLine(Config):
    """An ensemble that no cheaper one beats on the search images."""

    cost: Finite
    kind: str
    members: PositiveInt
    weights: dict[str, Finite]
    search_errors: NonNegativeInt
    errors: NonNegativeInt
    """On the images that the results are about."""
    is_tied: bool
    """With the best, on the search images."""
    is_cheapest_tied: bool


class SearchStep(Config):
    """One member tried by the search, in the order of trial."""

    member: str
    weight: Finite
    """The weight that the step settled on; 0 is not selected."""
    errors: Count
    """Top-`Search.k` errors on the search split after this step."""
    selected: bool
    errors_by_weight: tuple[Count, ...] = ()
    """Errors at evenly spaced weights from 0 to 1 (101 in the paper); empty if none tried."""


class Search(Config):
    """How the weights were found."""

    kind: str
    k: PositiveInt
    """The search minimised the top-k error of this k."""
    num_images: PositiveInt
    steps: tuple[SearchStep, ...]
    tied_images: Count
    """Images of the search split that a tie between classes decides."""
    warnings: tuple[str, ...] = ()
    """What makes the weights less trustworthy than they look."""
    members: tuple[MemberLine, ...] = ()
    """Why each member has its weight, in pool order."""
    stability: StabilitySummary | None = None
    """None where the search split is too large to search again and again."""
    cost_unit: str | None = None
    """What members were charged in; None where they were not, as two runs measure other seconds."""
    max_cost: Finite | None = None
    """What the members with a weight may cost in all."""
    frontier: tuple[FrontierLine, ...] = ()
    """From the cheapest ensemble to the best; empty where members were not charged."""


class Difference(Config):
    """A paired difference in error on the same images: this minus another predictor."""

    difference: FiniteFloat
    """A fraction; negative is better than the other."""
    low: FiniteFloat
    high: FiniteFloat
    level: Fraction
    """Of the bootstrap interval, as 0.95."""
    resamples: PositiveInt
    mcnemar_p: Fraction
    fixed: Count
    """Images that the other has wrong and this has right."""
    broken: Count
    """Images that the other has right and this has wrong."""

    @property
    def verdict(self) -> Literal["better", "worse", "undecided"]:
        """What one may say: something only where the interval and the exact test agree.

        With few images that changed, the bootstrap alone is too sure of itself.
        """
        if self.low <= 0 <= self.high or self.mcnemar_p > 1 - self.level:
            return "undecided"
        return "better" if self.high < 0 else "worse"
