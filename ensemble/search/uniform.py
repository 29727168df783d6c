"""The plain average of all members."""

import numpy as np

from ensemble.search.config import SearchConfig
from ensemble.search.fixed_point import WEIGHT_STEPS
from ensemble.search.outranking import OutrankingTable
from ensemble.search.result import Ensemble


def fit(table: OutrankingTable, config: SearchConfig) -> Ensemble:
    """Give every member weight 1.00."""
    errors = table.errors(np.full(table.num_members, WEIGHT_STEPS), config.k)
    weights = np.ones(table.num_members)
    return Ensemble(table.member_names, weights, "uniform", config.k, errors, table.num_images)
