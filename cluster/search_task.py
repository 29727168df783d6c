"""The search as a Ray task of its own, which runs while the pool works."""

from typing import Any

import ray
from ray import exceptions as ray_exceptions

from cluster.pool.ray_errors import translate
from ensemble.errors import ClusterError
from ensemble.outranking.table import OutrankingTable
from ensemble.search.outcome import SearchOutcome, find_outcome
from ensemble.search.settings import SearchConfig


class SearchHandle:
    """A search under way.

    Args:
        ref: Reference to its result.
    """

    def __init__(self, ref: Any) -> None:
        self._ref = ref

    def result(self) -> SearchOutcome:
        """Wait for the weights and what is said of them.

        Raises:
            ClusterError: The task of the search failed.
        """
        try:
            outcome: SearchOutcome = ray.get(self._ref)
        except ray_exceptions.RayError as error:
            raise ClusterError(f"the search failed: {translate(error)[1]}") from error
        return outcome


# It asks Ray for no CPU: images are decoded on the one that workers leave free, and while each waited
# for the other to give it back, hosts had nothing to do.
@ray.remote(num_cpus=0, max_retries=3)  # type: ignore[untyped-decorator]
def _search(table: OutrankingTable, config: SearchConfig) -> SearchOutcome:
    return find_outcome(table, config)


def start_search(table: OutrankingTable, config: SearchConfig) -> SearchHandle:
    """Start the search beside everything else that the cluster does, so that it waits for nothing of it.

    Args:
        table: Outranking table of the search split.
        config: Which search, and its settings.
    """
    return SearchHandle(_search.remote(table, config))
