"""The versioned search-report.json: what one search on a finished table found.

Error rates are fractions, negative log-likelihoods in nats. `Execution` alone may differ between
two searches of the same settings.
"""

from typing import Any, Literal

from pydantic import NonNegativeInt, PositiveInt

from ensemble.config import Config
from ensemble.report.documents.weights import (
    Difference,
    Finite,
    Fraction,
    FrontierLine,
    MemberLine,
    Sha256,
    StabilitySummary,
)
from ensemble.search.settings import PredictorKey


class Predictor(Config):
    """One predictor on images that its weights were not fitted on."""

    key: PredictorKey
    label: str
    members: PositiveInt
    n: PositiveInt
    errors: NonNegativeInt
    error: Fraction
    nll: Finite
    against_best: Difference | None
    against_uniform: Difference | None


class Fallback(Config):
    """What to use while one member is missing."""

    missing: str
    weights: dict[str, Finite]
    search_errors: NonNegativeInt
    search_errors_unchanged: NonNegativeInt


class AverageTemperature(Config):
    """A temperature for the average."""

    value: Finite
    nll_before: Finite
    nll_after: Finite
    is_kept: bool


class Execution(Config):
    """How this search went."""

    seconds: Finite
    versions: dict[str, str]


class SearchReport(Config):
    """Everything that one search found."""

    schema_version: Literal[2] = 2
    run: str
    config_sha256: Sha256
    """Of the run."""
    data_sha256: Sha256
    settings: dict[str, Any]
    """Of the search, resolved."""
    search: str
    """The one that made the weights."""
    k: PositiveInt
    classes: PositiveInt
    search_images: PositiveInt
    judged_images: PositiveInt
    is_cross_fitted: bool
    """Judged by two-fold cross-fitting rather than on a test split."""
    cost_unit: str | None
    warnings: tuple[str, ...]
    results: tuple[Predictor, ...]
    members: tuple[MemberLine, ...]
    stability: StabilitySummary | None
    frontier: tuple[FrontierLine, ...]
    fallbacks: tuple[Fallback, ...]
    average_temperature: AverageTemperature
    execution: Execution

    def reproducible(self) -> dict[str, Any]:
        """Return all that two searches of the same settings must agree on."""
        return self.model_dump(mode="json", exclude={"execution"})
