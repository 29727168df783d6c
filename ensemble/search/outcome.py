"""All that a search finds by its table alone: weights, comparisons, costs, and what can be said of them."""

from dataclasses import dataclass

from ensemble.outranking.table import OutrankingTable
from ensemble.search.comparison import Predictor, predictors
from ensemble.search.explain import MemberReason, explain
from ensemble.search.fallbacks import Fallback, find_fallbacks_among_selected
from ensemble.search.fit import fit
from ensemble.search.frontier import FrontierPoint, cost_frontier
from ensemble.search.recommend import Recommendation, answering, recommend
from ensemble.search.result import Ensemble
from ensemble.search.settings import SearchConfig
from ensemble.search.stability import Stability, bootstrap

STABILITY_RESAMPLES = 200

MAX_RESAMPLED_NUMBERS = 5_000_000
"""Size of the largest outranking table whose search a run resamples. It is no limit of time, by which
two runs of one config would differ; `ensemble search` resamples tables of any size."""


@dataclass(frozen=True)
class SearchOutcome:
    """What a search found.

    Attributes:
        settings: The search's, complete.
        ensemble: The weights.
        predictors: The ensemble, and the predictors that it is compared with.
        recommendation: Which of them is recommended, and why.
        frontier: Ensembles that no cheaper one beats; empty where costs do not count.
        fallbacks: Weights of the answer for the loss of a member, over others that have a weight.
        stability: How weights and errors differ from one bootstrap sample to another; None where the table
            is too large to resample.
        reasons: Why each member has its weight, in pool order.
    """

    settings: SearchConfig
    ensemble: Ensemble
    predictors: tuple[Predictor, ...]
    recommendation: Recommendation
    frontier: tuple[FrontierPoint, ...]
    fallbacks: tuple[Fallback, ...]
    stability: Stability | None
    reasons: tuple[MemberReason, ...]

    @property
    def recommended(self) -> Predictor:
        """The recommended row of the comparison."""
        return next(row for row in self.predictors if row.key == self.recommendation.key)

    @property
    def answer(self) -> Predictor:
        """The row of the comparison that answers before any routing."""
        return answering(self.predictors, self.recommendation, self.settings)


def find_outcome(table: OutrankingTable, config: SearchConfig) -> SearchOutcome:
    """Search weights, and find everything else that needs no more than the table.

    Args:
        table: Outranking table of the search split.
        config: Which search, and its settings.

    Raises:
        ProjectError: As `fit`.
    """
    return outcome_of(table, config, fit(table, config))


def outcome_of(table: OutrankingTable, config: SearchConfig, ensemble: Ensemble) -> SearchOutcome:
    """Find everything else that needs no more than the table, for weights that are there.

    Args:
        table: The table that the ensemble was fitted on.
        config: Settings of the search.
        ensemble: The ensemble.
    """
    rows, recommendation = predictors(table, config, ensemble), recommend(table, config, ensemble)
    answer = answering(rows, recommendation, config).ensemble
    is_small = table.differences.size <= MAX_RESAMPLED_NUMBERS
    return SearchOutcome(
        settings=config,
        ensemble=ensemble,
        predictors=rows,
        recommendation=recommendation,
        frontier=cost_frontier(table, config, [ensemble]) if config.costs else (),
        fallbacks=find_fallbacks_among_selected(table, answer, config),
        stability=bootstrap(table, ensemble, config, STABILITY_RESAMPLES, config.seed)
        if is_small
        else None,
        reasons=explain(table, ensemble, config),
    )
