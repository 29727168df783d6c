"""The parts about weights, in the reports of runs and of searches: steps, reasons, stability, costs."""

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveInt, StringConstraints

from ensemble.config import Config
from ensemble.search.settings import PredictorKey

Count = NonNegativeInt
Fraction = Annotated[float, Field(ge=0, le=1)]
# JSON has no infinity: a report that holds one could not be read back.
Finite = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# A larger image would make the page too large to be sent by mail.
Base64Png = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]+={0,2}$", max_length=65536)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class MemberLine(Config):
    """The weight of a member and the reasons for it; errors are counted on the search images."""

    name: str
    """Name of the member."""
    family: str
    """Architecture of the member."""
    weight: Finite
    """Weight of the member; 0 where it is not selected."""
    errors: NonNegativeInt
    """Errors of the member alone."""
    gain: int | None
    """Errors that went away when the member joined those with a larger weight; None at weight 0."""
    loss: int | None
    """Errors that come back without the member, the other weights unchanged; None at weight 0."""
    nearest: str | None
    """Name of the other member with a weight whose errors are most alike; None where there is none."""
    correlation: FiniteFloat | None
    """Correlation of the errors with those of the nearest member."""
    reason: str
    """The reason in words."""
    cost: Finite | None
    """Cost of the member; None where costs do not count."""
    temperature: Finite | None
    """Temperature of the member's probabilities; None where it is 1."""
    frequency: Fraction | None
    """Share of the bootstrap samples whose search selects the member."""
    share_low: Fraction | None
    """2.5 % quantile of the member's share of all weights over the bootstrap samples."""
    share_high: Fraction | None
    """97.5 % quantile of the member's share of all weights over the bootstrap samples."""


class StabilitySummary(Config):
    """Results of the same search on bootstrap samples of the search images."""

    resamples: PositiveInt
    """Number of bootstrap samples."""
    same_selection: Fraction
    """Share of the samples whose search selects the same members."""
    in_bag_error: Fraction
    """Mean error on the images of the sample."""
    out_of_bag_error: Fraction | None
    """Mean error on the images that the sample leaves out; None where it leaves none out."""


class FrontierLine(Config):
    """An ensemble that no cheaper one beats on the search images."""

    cost: Finite
    """Cost of the members with a weight in all."""
    kind: str
    """Search that fitted the weights."""
    members: PositiveInt
    """Number of members with a weight."""
    weights: dict[str, Finite]
    """Weights above 0 by the name of the member."""
    search_errors: NonNegativeInt
    """Errors on the search images."""
    errors: NonNegativeInt
    """Errors on the images that the results are judged on."""
    is_tied: bool
    """Whether the difference to the best ensemble on the search images is not significant."""
    is_cheapest_tied: bool
    """Whether this is the cheapest of the ensembles that are tied with the best."""


class Fallback(Config):
    """Weights of the other members for the loss of one."""

    missing: str
    """Name of the member that is lost."""
    weights: dict[str, Finite]
    """Weights above 0 by the name of the member."""
    search_errors: NonNegativeInt
    """Errors on the search images with these weights."""
    search_errors_unchanged: NonNegativeInt
    """Errors on the search images with the other members' weights left as they are."""
    scale: Finite = 1.0
    """What a mean of logarithms with these weights is multiplied by; 1 for probabilities."""


class SearchStep(Config):
    """One member tried by the search, in the order of trial."""

    member: str
    weight: Finite
    """Weight that the step chose; 0 leaves the member out."""
    errors: Count
    """Top-`Search.k` errors on the search split after this step."""
    selected: bool
    errors_by_weight: tuple[Count, ...] = ()
    """Errors at evenly spaced weights from 0 to 1 (101 in the paper); empty where only one was tried."""


class Search(Config):
    """The search that fitted the weights: its steps, its reasons, and how stable it is."""

    kind: str
    combine: Literal["probabilities", "logs"] = "probabilities"
    """What is averaged with the weights: probabilities, or their logarithms before a softmax."""
    scale: Finite = 1.0
    """What a mean of logarithms is multiplied by before the softmax; 1 for probabilities."""
    k: PositiveInt
    """The search minimised the top-k error of this k."""
    num_images: PositiveInt
    steps: tuple[SearchStep, ...]
    tied_images: Count
    """Images of the search split whose answer is decided by a tie between classes."""
    warnings: tuple[str, ...] = ()
    """Reasons to trust the weights less, in words."""
    members: tuple[MemberLine, ...] = ()
    """Weights of the members and the reasons for them, in pool order."""
    stability: StabilitySummary | None = None
    """Results on bootstrap samples; None where the search split is too large to search it many times."""
    cost_unit: str | None = None
    """Unit of the members' costs; None where costs do not count."""
    max_cost: Finite | None = None
    """Greatest cost of the members with a weight in all; None where there is no limit."""
    frontier: tuple[FrontierLine, ...] = ()
    """Ensembles from the cheapest to the best; empty where costs do not count."""


class HeldOutLine(Config):
    """A predictor on search images that its weights were not fitted on."""

    key: PredictorKey
    label: str
    """Name of the predictor."""
    error: Fraction
    """Rate of the top-k errors."""
    behind: FiniteFloat
    """Loss less that of the predictor with the least: a rate of errors, or nats under `objective: nll`."""
    standard_error: Finite
    """Standard error of `behind`, over the same images."""
    is_tied: bool
    """Whether the predictor is within one standard error of the one with the least loss."""
    is_allowed: bool
    """Whether the caps of the search allow the predictor."""


class Recommendation(Config):
    """The predictor to use, chosen on the search split, and how all of them do there."""

    key: str
    """Key of the recommended result."""
    reason: str
    """Why this one, in words."""
    held_out: tuple[HeldOutLine, ...]
    """Every predictor on held-out search images; empty where there are too few of them."""


class Cost(Config):
    """What an image costs a predictor; every network that may answer counts in full."""

    key: str
    """Key of the result."""
    label: str
    """Name of the predictor."""
    networks: PositiveInt
    """Number of networks, sub-classifiers included."""
    parameters: Count | None = None
    """Parameters of all networks; None where they are not known."""
    flops: Finite | None = None
    """Floating-point operations of an image under all views; None where a member's were not counted."""
    depth: Count | None = None
    """Weighted layers on the longest path of each network, added up; None where a member's were not counted."""
    seconds: Finite | None = None
    """Seconds of an image in the report of a search; that of a run has them in `execution`."""


class Difference(Config):
    """A paired difference in error on the same images: this minus another predictor."""

    difference: FiniteFloat
    """Difference of the error rates, as a fraction; this predictor is better where it is negative."""
    low: FiniteFloat
    """Lower end of the bootstrap interval."""
    high: FiniteFloat
    """Upper end of the bootstrap interval."""
    level: Fraction
    """Confidence level of the bootstrap interval, as 0.95."""
    resamples: PositiveInt
    """Number of bootstrap samples."""
    mcnemar_p: Fraction
    """p-value of McNemar's exact test."""
    fixed: Count
    """Images that the other predictor has wrong and this one has right."""
    broken: Count
    """Images that the other predictor has right and this one has wrong."""

    @property
    def verdict(self) -> Literal["better", "worse", "undecided"]:
        """The verdict: better or worse only where the interval and the exact test agree.

        Where few images changed, the bootstrap interval alone is too narrow.
        """
        if self.low <= 0 <= self.high or self.mcnemar_p > 1 - self.level:
            return "undecided"
        return "better" if self.high < 0 else "worse"
