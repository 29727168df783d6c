"""One run under way: the values that all its stages share, and nothing that a stage changes."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cluster.pool.pool import Pool
from cluster.search_task import Searcher
from ensemble.errors import ConfigError
from ensemble.images.open import Source
from ensemble.images.split import Splits
from ensemble.members.identity import fingerprint
from ensemble.members.member import Member
from ensemble.search.settings import CostUnit, SearchConfig
from ensemble.storage.store import Store
from ensemble.table.logit_table import LogitTable
from ensemble.training.task import Reading, Start
from jobs.progress.live import Progress
from jobs.search_settings import complete, needs_costs
from jobs.settings import RunConfig
from jobs.stored_runs.columns import measured_costs
from jobs.stored_runs.layout import RunFolder, cache_in
from jobs.stored_runs.other_runs import OtherRuns
from jobs.stored_runs.weights import KeptWeights


@dataclass(frozen=True)
class RunOptions:
    """How one attempt at a run behaves; nothing of what the run finds.

    Attributes:
        allow_partial: Leave out the images of blocks that kill their worker every time.
        json_log: Print progress as JSON, for programs.
    """

    allow_partial: bool = False
    json_log: bool = False


@dataclass(frozen=True)
class Clock:
    """When the run began."""

    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Seconds since then."""
        return time.perf_counter() - self.started


@dataclass
class Counts:
    """What this very run had to compute."""

    trained: int = 0
    from_cache: int = 0
    forward_passes: int = 0
    predict_seconds: float = 0.0

    def describe(self) -> str:
        """One line."""
        return (
            f"{self.trained} members and sub-classifiers trained, {self.from_cache} from cache; "
            f"{self.forward_passes} forward passes"
        )


@dataclass(frozen=True)
class Job:
    """One run under way.

    Attributes:
        config: Checked settings.
        folder: Where the run's files go.
        options: How this attempt behaves.
        source: The images, to decode them by id.
        data_sha256: SHA-256 of ids and labels of all images.
        splits: All images, also those that turn out not to be readable.
        table: Open for writing; no other run writes it meanwhile.
        imported: Checkpoints of the members that are not trained here, by name.
        starts: Published weights that trainings start from, by the name of the trained member.
        pool: Ray's hosts.
        progress: What a person watches.
        store: Where the run is published; None if it stays on this machine.
        searcher: The process of the search; it is started while predictions are made.
        clock: When the run began.
        counts: What was computed; the one thing here that grows.
    """

    config: RunConfig
    folder: RunFolder
    options: RunOptions
    source: Source
    data_sha256: str
    splits: Splits
    table: LogitTable
    imported: dict[str, Path]
    starts: dict[str, Start]
    pool: Pool
    progress: Progress
    store: Store | None = None
    searcher: Searcher = field(default_factory=Searcher)
    clock: Clock = field(default_factory=Clock)
    counts: Counts = field(default_factory=Counts)

    @property
    def cache(self) -> Path:
        """Where weights are kept."""
        return cache_in(self.config.runs)

    @property
    def reading(self) -> Reading:
        """How trainings read photographs themselves."""
        return Reading(self.config.image_source, self.config.training.disk_mb)

    @property
    def trust_code(self) -> bool:
        """Whether members may run code of their own."""
        return self.config.weights.trust_code

    @property
    def weights(self) -> KeptWeights | None:
        """Weights that lie with the published run; None if it stays on this machine."""
        return KeptWeights(self.store) if self.store is not None else None

    @property
    def other_runs(self) -> OtherRuns:
        """Runs beside this one, whose columns it may copy."""
        return OtherRuns(self.config, self.folder)

    def seed_of(self, *parts: object) -> int:
        """A seed of its own for each piece of work, from the run's."""
        return seed_of(self.config, *parts)


def seed_of(config: RunConfig, *parts: object) -> int:
    """Make a seed of its own for each piece of work, from the run's."""
    return int(fingerprint([config.seed, *parts])[:8], 16)


def search_config(
    config: SearchConfig,
    members: Sequence[Member],
    table: LogitTable,
    depths: Mapping[str, int | None],
) -> SearchConfig:
    """Complete the search's settings with what a run knows of its members where they are silent.

    Families are architectures. Costs are what the table's commits measured.

    Raises:
        ConfigError: A bound is set on a cost that was not measured.
    """
    families = {member.name: member.architecture for member in members}
    costs = _measured_costs(members, table, config.cost, depths) if needs_costs(config) else {}
    return complete(config, families, costs)


def measured_cost_of(
    members: Sequence[Member],
    table: LogitTable,
    unit: CostUnit,
    depths: Mapping[str, int | None],
) -> dict[str, float]:
    """Give what networks cost an image in a unit, by column; 0 where that was not measured.

    Args:
        members: The networks.
        table: The table that their predictions are in.
        unit: Unit of the costs.
        depths: Depth of each network, by name.
    """
    if unit == "depth":
        return {member.column: float(depths.get(member.name) or 0) for member in members}
    if unit == "parameters":
        return {member.column: float(member.parameters) for member in members}
    commits = tuple(table.commits())
    return {member.column: measured_costs(commits, member.column)[unit] for member in members}


def _measured_costs(
    members: Sequence[Member],
    table: LogitTable,
    unit: CostUnit,
    depths: Mapping[str, int | None],
) -> dict[str, float]:
    by_column = measured_cost_of(members, table, unit, depths)
    costs = {member.name: by_column[member.column] for member in members}
    if unmeasured := [name for name, cost in costs.items() if not cost]:
        raise ConfigError(
            f"search.max_cost bounds {unit}, and none were measured for {', '.join(unmeasured)}. "
            "Set search.cost=parameters, give search.costs, or drop search.max_cost; the same "
            "command then goes on from here."
        )
    return costs
