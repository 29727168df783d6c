"""The plain average of all members, or of as many of the best as the caps allow."""

import numpy as np

from ensemble.outranking.fixed_point import WEIGHT_UNITS
from ensemble.outranking.table import OutrankingTable
from ensemble.search.limits import Limits
from ensemble.search.result import Ensemble
from ensemble.search.settings import SearchConfig
from ensemble.search.weights import best_first, finish


def fit(table: OutrankingTable, config: SearchConfig) -> Ensemble:
    """Give every member weight 1.00, from best to worst as far as the caps allow."""
    taken = Limits.of(table, config).take(best_first(table, config).tolist())
    return finish(table, config, "uniform", np.where(taken, WEIGHT_UNITS, 0))
