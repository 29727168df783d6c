"""The search in a process of its own, which runs while the pool works."""

from typing import Any

import ray
from ray import exceptions as ray_exceptions

from cluster.pool.ray_errors import translate
from ensemble.errors import ClusterError
from ensemble.outranking.table import OutrankingTable
from ensemble.search.outcome import SearchOutcome, find_outcome
from ensemble.search.settings import SearchConfig

# After a lost process or node; the search is a function of what it is given.
_MOST_RESTARTS = 3


class SearchHandle:
    """A search under way.

    Args:
        ref: Reference to its result.
        worker: The process that searches, which Ray ends when nothing refers to it any more.
    """

    def __init__(self, ref: Any, worker: Any) -> None:
        self._ref, self._worker = ref, worker

    def result(self) -> SearchOutcome:
        """Wait for the weights and what is said of them.

        Raises:
            ClusterError: The process of the search failed.
        """
        try:
            outcome: SearchOutcome = ray.get(self._ref)
        except ray_exceptions.RayError as error:
            raise ClusterError(f"the search failed: {translate(error)[1]}") from error
        return outcome


class _SearchWorker:
    """The process of a search; it has imported all that it needs once it stands."""

    def search(self, table: OutrankingTable, config: SearchConfig) -> SearchOutcome:
        return find_outcome(table, config)


class Searcher:
    """A process for searches beside everything else that the cluster does.

    It is no task, because a task would take the process that has decoded images so far: those that
    fine-tuning waits for would wait for another one to start and to import.
    """

    def __init__(self) -> None:
        self._worker: Any = None

    def prepare(self) -> None:
        """Start the process, so that it stands when a search begins."""
        if self._worker is None:
            # It asks Ray for no CPU: images are decoded on the one that workers leave free, and while
            # each waited for the other to give it back, hosts had nothing to do.
            options = {
                "num_cpus": 0,
                "max_restarts": _MOST_RESTARTS,
                "max_task_retries": _MOST_RESTARTS,
            }
            self._worker = ray.remote(_SearchWorker).options(**options).remote()

    def start(self, table: OutrankingTable, config: SearchConfig) -> SearchHandle:
        """Start a search.

        Args:
            table: Outranking table of the search split.
            config: Which search, and its settings.
        """
        self.prepare()
        return SearchHandle(self._worker.search.remote(table, config), self._worker)
