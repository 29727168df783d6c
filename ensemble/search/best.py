"""The best single member: what an ensemble has to beat."""

import numpy as np

from ensemble.search.config import SearchConfig
from ensemble.search.order import best_first
from ensemble.search.outranking import OutrankingTable
from ensemble.search.result import Ensemble, SearchStep


def fit(table: OutrankingTable, config: SearchConfig) -> Ensemble:
    """Give weight 1.00 to the member with the fewest errors; ties: lower NLL, then pool order."""
    anchor = int(best_first(table, config.k)[0])
    errors = int(table.member_errors(config.k)[anchor])
    weights = np.zeros(table.num_members)
    weights[anchor] = 1.0
    step = SearchStep(table.member_names[anchor], 1.0, errors, True, np.zeros(0, np.int64))
    return Ensemble(
        table.member_names, weights, "best", config.k, errors, table.num_images, (step,)
    )
