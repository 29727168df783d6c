"""The search as a Ray task of its own, which runs while the pool works."""

from typing import Any

import ray
from ray import exceptions as ray_exceptions

from cluster.pool.ray_errors import translate
from ensemble.errors import ClusterError
from ensemble.outranking.table import OutrankingTable
from ensemble.search.fit import fit
from ensemble.search.result import Ensemble
from ensemble.search.settings import SearchConfig


class SearchHandle:
    """A search under way.

    Args:
        ref: Reference to its result.
    """

    def __init__(self, ref: Any) -> None:
        self._ref = ref

    def result(self) -> Ensemble:
        """Wait for the weights.

        Raises:
            ClusterError: The task of the search failed.
        """
        try:
            ensemble: Ensemble = ray.get(self._ref)
        except ray_exceptions.RayError as error:
            raise ClusterError(f"the search failed: {translate(error)[1]}") from error
        return ensemble


@ray.remote(num_cpus=1, max_retries=3)  # type: ignore[untyped-decorator]
def _search(table: OutrankingTable, config: SearchConfig) -> Ensemble:
    return fit(table, config)


def start_search(table: OutrankingTable, config: SearchConfig) -> SearchHandle:
    """Start the search on the CPU that workers leave free, so that it waits for none of them.

    Args:
        table: Outranking table of the search split.
        config: Which search, and its settings.
    """
    return SearchHandle(_search.remote(table, config))
