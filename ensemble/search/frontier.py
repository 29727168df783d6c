"""Error against cost: which ensembles no cheaper one beats, and the cheapest that is as good as the best.

Searches are run under a row of cost bounds, and what no other beats in both is kept. All of it
is counted on the images that the weights are fitted on; the caller judges the points on others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ensemble import statistics
from ensemble.errors import ConfigError
from ensemble.outranking.combine import Combine
from ensemble.outranking.table import OutrankingTable
from ensemble.search.fit import fit
from ensemble.search.limits import Limits, member_costs
from ensemble.search.result import Ensemble
from ensemble.search.settings import SearchConfig, SearchKind

_NUM_BOUNDS = 12


@dataclass(frozen=True)
class FrontierPoint:
    """An ensemble that no cheaper one beats.

    Attributes:
        cost: Sum of the costs of its members with weight > 0.
        ensemble: The weights.
        is_tied: Whether it is statistically tied with the point of least errors.
    """

    cost: float
    ensemble: Ensemble
    is_tied: bool


def cost_frontier(
    table: OutrankingTable,
    config: SearchConfig,
    also: Sequence[Ensemble] = (),
    level: float = 0.95,
    resamples: int = 10_000,
) -> tuple[FrontierPoint, ...]:
    """Find the ensembles that no cheaper one beats, from the cheapest to the best.

    Args:
        table: The table that weights are fitted on.
        config: Settings with costs; their `max_cost` bounds the frontier too.
        also: Further ensembles that may be points of the frontier.
        level: Confidence of the paired bootstrap interval that says whether two are tied.
        resamples: Bootstrap samples of that interval.

    Raises:
        ConfigError: The settings have no costs.
    """
    if not config.costs:
        raise ConfigError("a cost frontier needs search.costs; give the cost of each member.")
    costs = member_costs(table.member_names, config.costs)
    candidates = [
        ensemble for ensemble in also if Limits.of(table, config).allow(ensemble.units > 0)
    ]
    for bound in _bounds(costs, config.max_cost):
        # Below the cost of its cheapest member there is no warm start.
        start = {name: w for name, w in config.start.items() if config.costs[name] <= bound}
        for kind, combine in _searches(table, config):
            update = {"kind": kind, "combine": combine, "max_cost": bound, "start": start}
            candidates.append(fit(table, config.model_copy(update=update)))
    best = min(candidates, key=lambda ensemble: ensemble.errors)
    return tuple(
        FrontierPoint(
            cost=float(costs[ensemble.units > 0].sum()),
            ensemble=ensemble,
            is_tied=_is_tied(table, ensemble, best, level, resamples),
        )
        for ensemble in _undominated(candidates, costs)
    )


def cheapest_tied(frontier: Sequence[FrontierPoint]) -> FrontierPoint:
    """Take the cheapest point that is statistically tied with the best."""
    return next(point for point in frontier if point.is_tied)


def _searches(table: OutrankingTable, config: SearchConfig) -> list[tuple[SearchKind, Combine]]:
    """List the searches under each bound; `auto` is not one: it would cross-fit at every bound."""
    combine = config.combine or "probabilities"
    kinds = [kind for kind in dict.fromkeys(("best", "forward", config.kind)) if kind != "auto"]
    searches: list[tuple[SearchKind, Combine]] = [(kind, combine) for kind in kinds]
    if config.kind == "auto" and config.combine is None:
        searches += [("likelihood", other) for other in table.combines if other != combine]
    return searches


def _bounds(costs: np.ndarray, max_cost: float | None) -> list[float]:
    """List cost bounds from the cheapest member to all members, evenly on a logarithmic scale."""
    lowest, highest = float(costs.min()), float(costs.sum())
    highest = min(highest, highest if max_cost is None else max_cost)
    if lowest <= 0 or lowest >= highest:
        return [highest] if highest > 0 else [1.0]
    return [float(bound) for bound in np.geomspace(lowest, highest, _NUM_BOUNDS)]


def _undominated(candidates: Sequence[Ensemble], costs: np.ndarray) -> list[Ensemble]:
    frontier: list[Ensemble] = []
    for ensemble in sorted(candidates, key=lambda e: (costs[e.units > 0].sum(), e.errors)):
        if not frontier or ensemble.errors < frontier[-1].errors:
            frontier.append(ensemble)
    return frontier


def _is_tied(
    table: OutrankingTable, ensemble: Ensemble, best: Ensemble, level: float, resamples: int
) -> bool:
    wrong, least = (table.of(e.combine).is_error(e.units, e.k) for e in (ensemble, best))
    return not statistics.paired_bootstrap(wrong, least, resamples, level=level).is_significant
