"""Members from best to worst."""

import numpy as np
from jaxtyping import Int

from ensemble.search.config import SearchConfig
from ensemble.search.outranking import OutrankingTable


def best_first(table: OutrankingTable, k: int) -> Int[np.ndarray, " member"]:
    """Order members by their own top-k errors; ties: the lower NLL, then pool order."""
    return np.lexsort((table.member_nll(), table.member_errors(k)))


def by_objective(table: OutrankingTable, config: SearchConfig) -> Int[np.ndarray, " member"]:
    """Order members by what is lowered; ties: by NLL or errors, then the cheaper, then pool order."""
    costs = np.array([float(config.costs.get(name, 0.0)) for name in table.member_names])
    errors, nll = table.member_errors(config.error_k), table.member_nll()
    if config.objective == "nll":
        return np.lexsort((costs, errors, nll))
    return np.lexsort((costs, nll, errors))
