"""Members from best to worst."""

import numpy as np
from jaxtyping import Int

from ensemble.search.outranking import OutrankingTable


def best_first(
    table: OutrankingTable, k: int, image_counts: Int[np.ndarray, " image"] | None = None
) -> Int[np.ndarray, " member"]:
    """Order members by their own top-k errors; ties: the lower NLL, then pool order."""
    errors = table.member_errors(k, image_counts)
    return np.lexsort((table.member_nll(image_counts), errors))
