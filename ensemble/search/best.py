"""The best single member: what an ensemble has to beat."""

from ensemble.outranking.table import OutrankingTable
from ensemble.search.limits import Limits
from ensemble.search.result import Ensemble
from ensemble.search.settings import SearchConfig
from ensemble.search.weights import anchor_step, anchor_units, best_first, finish


def fit(table: OutrankingTable, config: SearchConfig) -> Ensemble:
    """Give weight 1.00 to the member with the lowest loss that the caps allow."""
    limits = Limits.of(table, config)
    anchor = limits.affordable(best_first(table, config))[0]
    step = anchor_step(table, anchor, config.error_k)
    return finish(table, config, "best", anchor_units(table, anchor), (step,))
