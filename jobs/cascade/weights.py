"""Weights of a finished run, searched again on its table, for jobs that go on from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ensemble.errors import ConfigError
from ensemble.evaluation.calibration import Temperature
from ensemble.outranking.table import OutrankingTable
from ensemble.search.fit import fit
from ensemble.search.result import Ensemble
from ensemble.search.settings import SearchConfig
from jobs.search_settings import search_settings
from jobs.stored_runs.finished import (
    FinishedRun,
    fit_temperatures,
    open_finished_run,
    read_outranking,
)


@dataclass(frozen=True)
class RunWeights:
    """A finished run, and weights of its members.

    Attributes:
        run: The run.
        search: Settings of the search.
        temperatures: Temperatures of members, by name; 1 where a member has none.
        table: Outranking table of the search split.
        ensemble: The weights.
        coverage: Least probability that the conformal set of an answer holds the label; None for no sets.
    """

    run: FinishedRun
    search: SearchConfig
    temperatures: Mapping[str, Temperature]
    table: OutrankingTable
    ensemble: Ensemble
    coverage: float | None

    @property
    def names(self) -> list[str]:
        """Names of the run's members."""
        return list(self.run.families)

    @property
    def costs(self) -> list[float]:
        """Cost of each member for one image."""
        return [self.search.costs[name] for name in self.names]


def find_weights(place: Path | str, storage: Sequence[str], words: Sequence[str]) -> RunWeights:
    """Search weights of a finished run whose members' costs are known.

    Args:
        place: The run's folder, or s3://bucket/prefix.
        storage: How S3 is reached, of the form storage.key=value.
        words: Settings of the search, of the form key=value.

    Raises:
        ConfigError: The folder is not that of a finished run, a setting is wrong, or the run did not measure the
            cost of each member.
    """
    run = open_finished_run(place, storage)
    config = search_settings(words, run.config.search, run.costs, run.families)
    search = config.search
    if not search.costs:
        raise ConfigError(
            f"the run {str(place)!r} did not measure cost={search.cost} for every member. Measured: "
            f"{', '.join(run.costs) or 'nothing'}. Add cost=UNIT with one of these, or costs={{NAME: COST, …}}."
        )
    temperatures = (
        fit_temperatures(run, run.splits.search, search.seed) if config.temperature else {}
    )
    table = read_outranking(run, run.splits.search, temperatures, search.combines)
    return RunWeights(run, search, temperatures, table, fit(table, search), config.coverage)
