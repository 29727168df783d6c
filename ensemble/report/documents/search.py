"""The versioned search-report.json: the results of one search on the table of a finished run.

Error rates are fractions, negative log-likelihoods in nats. `Execution` alone may differ between
two searches of the same settings.
"""

from typing import Any, Literal

from pydantic import NonNegativeInt, PositiveInt

from ensemble.config import Config
from ensemble.report.documents.diagnostics import (
    Agreement,
    ErrorsByClass,
    ReliabilityAtTemperature,
    SetsOnTest,
)
from ensemble.report.documents.weights import (
    Cost,
    Difference,
    Fallback,
    Finite,
    Fraction,
    FrontierLine,
    MemberLine,
    Recommendation,
    Sha256,
    StabilitySummary,
)
from ensemble.search.settings import PredictorKey


class Predictor(Config):
    """One predictor on images that its weights were not fitted on."""

    key: PredictorKey
    """Key of the predictor, the same in every report."""
    label: str
    """Name of the predictor in tables."""
    members: PositiveInt
    """Number of members with a weight."""
    n: PositiveInt
    """Number of images."""
    errors: NonNegativeInt
    """Top-k errors, for the report's `k`."""
    error: Fraction
    """Rate of these errors."""
    nll: Finite
    """Mean negative log-likelihood of the label, in nats."""
    against_best: Difference | None
    """Difference to the best member; None for the best member itself."""
    against_uniform: Difference | None
    """Difference to the plain average of all members; None for that average itself."""


class AverageTemperature(Config):
    """A temperature for the weighted average of the members."""

    value: Finite
    """The temperature; 1 where none helped on held-out images."""
    nll_before: Finite
    """NLL of the search images at a temperature of 1, in nats."""
    nll_after: Finite
    """NLL of the search images at temperatures fitted on the other half of them, in nats."""
    is_kept: bool
    """Whether the held-out NLL fell."""


class Execution(Config):
    """Time and versions of this very search; nothing here changes a figure elsewhere."""

    seconds: Finite
    """Wall time of the search."""
    images: str = ""
    """Where the images lie: kind and path."""
    versions: dict[str, str]
    """Versions of Python and of libraries."""


class SearchReport(Config):
    """Everything that one search found."""

    schema_version: Literal[2] = 2
    run: str
    """Name of the run."""
    config_sha256: Sha256
    """Identity of the run's settings."""
    data_sha256: Sha256
    """Identity of the run's images."""
    settings: dict[str, Any]
    """Settings of the search, with all defaults."""
    is_imported: bool = False
    """Whether the predictions were computed elsewhere, so that no run can make an artifact of them."""
    search: str
    """Search that fitted the weights."""
    combine: Literal["probabilities", "logs"] = "probabilities"
    """What is averaged with the weights: probabilities, or their logarithms before a softmax."""
    scale: Finite = 1.0
    """What a mean of logarithms is multiplied by before the softmax; 1 for probabilities."""
    k: PositiveInt
    """k of the top-k errors that the search lowers and the report counts."""
    classes: PositiveInt
    """Number of classes."""
    search_images: PositiveInt
    """Number of images that the weights were fitted on."""
    judged_images: PositiveInt
    """Number of images that the results are judged on."""
    is_cross_fitted: bool
    """Whether the results are judged by two-fold cross-fitting rather than on a test split."""
    cost_unit: str | None
    """Unit of the members' costs; None where costs do not count."""
    warnings: tuple[str, ...]
    """Reasons to trust the weights less, in words."""
    recommendation: Recommendation | None = None
    """Which predictor to use; None in reports of earlier versions."""
    results: tuple[Predictor, ...]
    """The ensemble, and the predictors that it is compared with."""
    members: tuple[MemberLine, ...]
    """Weights of the members and the reasons for them, in pool order."""
    stability: StabilitySummary | None
    """Results on bootstrap samples; None where the search was not resampled."""
    frontier: tuple[FrontierLine, ...]
    """Ensembles from the cheapest to the best; empty where costs do not count."""
    fallbacks: tuple[Fallback, ...]
    """Weights for the loss of each member with a weight."""
    costs: tuple[Cost, ...] = ()
    """Cost of the best member, of the selected members and of all."""
    average_temperature: AverageTemperature
    """Temperature for the weighted average."""
    reliability: ReliabilityAtTemperature | None = None
    """Reliability of the weighted ensemble on the test images; None where the results are cross-fitted."""
    sets: SetsOnTest | None = None
    """Conformal sets of the answers on the test images; None where there are none, or in earlier reports."""
    class_names: tuple[str, ...] = ()
    """Name of each class, by class index; empty in reports of earlier versions."""
    errors_by_class: ErrorsByClass | None = None
    """Errors by class, and confusions; None where the results are cross-fitted."""
    agreement: Agreement | None = None
    """How alike the members' errors are; None for a single member."""
    execution: Execution
    """Time and versions."""

    def reproducible(self) -> dict[str, Any]:
        """Return all that two searches of the same settings must agree on."""
        return self.model_dump(mode="json", exclude={"execution"})
