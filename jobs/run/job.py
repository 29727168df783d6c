"""jobs / run / job: say here what this file is responsible for."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cluster.pool.pool import Pool
from cluster.scheduling.placement import Plan
from ensemble.errors import ConfigError
from ensemble.images.split import Splits
from ensemble.members.identity import fingerprint
from ensemble.members.member import Member
from ensemble.members.settings import MemberConfig
from ensemble.members.source_settings import ImportedSource, RecipeSource
from ensemble.search.settings import CostUnit, SearchConfig
from ensemble.subclassifiers.label_clusters import check_num_clusters
from ensemble.table.logit_table import LogitTable
from ensemble.views.policies import weigh_views
from jobs.plan.text import plan_line
from jobs.progress.live import Progress
from jobs.settings import RunConfig
from jobs.stored_runs.finished import measured_costs
from jobs.stored_runs.other_runs import OtherRuns
from jobs.stored_runs.weights import KeptWeights


@dataclass
class Counts:
    """What this very run had to compute."""

    trained: int = 0
    from_cache: int = 0
    forward_passes: int = 0
    predict_seconds: float = 0.0


@dataclass
class Job:
    """One run under way."""

    config: RunConfig
    splits: Splits
    data_sha256: str
    table: LogitTable
    pool: Pool
    progress: Progress
    imported: dict[str, Path] = field(default_factory=dict)
    weights: KeptWeights | None = None
    others: OtherRuns | None = None
    counts: Counts = field(default_factory=Counts)

    def say_plan(self, found: Plan) -> None:
        """Print a plan before it is carried out."""
        self.progress.say(plan_line(found))

    @property
    def cache(self) -> Path:
        """Where weights are kept."""
        return cache_of(self.config)

    @property
    def trust_code(self) -> bool:
        """Whether members may run code of their own."""
        return self.config.weights.trust_code

    def seed_of(self, *parts: object) -> int:
        """A seed of its own for each piece of work, from the run's."""
        return int(fingerprint([self.config.seed, *parts])[:8], 16)


def cache_of(config: RunConfig) -> Path:
    """Where runs keep weights; absolute, because hosts may run in another folder."""
    return (config.runs / "cache").absolute()


def search_config(job: Job, members: Sequence[Member]) -> SearchConfig:
    """The search's settings, with what a run knows of its members where they are silent.

    Families are architectures. Costs are what the table's commits measured; they are taken for a
    cost bound only, because they also break ties, and two runs that must find the same weights
    measure other seconds.

    Raises:
        ConfigError: There is a bound on a cost that was not measured.
    """
    search, known = job.config.search, dict[str, dict[str, str] | dict[str, float]]()
    if not search.families:
        known["families"] = {member.name: member.architecture for member in members}
    if not search.costs and search.max_cost is not None:
        known["costs"] = _costs(job, members, search.cost)
    return search.model_copy(update=known)


def _costs(job: Job, members: Sequence[Member], unit: CostUnit) -> dict[str, float]:
    if unit == "parameters":
        return {member.name: float(member.parameters) for member in members}
    commits = tuple(job.table.commits())
    costs = {member.name: measured_costs(commits, member.column)[unit] for member in members}
    if lacking := [name for name, cost in costs.items() if not cost]:
        raise ConfigError(
            f"search.max_cost bounds {unit}, and none were measured for {', '.join(lacking)}. Set "
            "search.cost=parameters, give search.costs, or drop search.max_cost; the same command "
            "then goes on from here."
        )
    return costs


def _check(config: RunConfig, splits: Splits) -> None:
    """Refuse, before anything is computed, what cannot work on these images."""
    num_classes = len(splits.test.classes)
    for key, k in (("search.k", config.search.k), ("report.top_k", config.report.top_k)):
        if k >= num_classes:
            raise ConfigError(
                f"{key} is {k}, and there are {num_classes} classes: nothing could be an error. "
                f"Set {key} to {num_classes - 1} or less."
            )
    if config.subclassifiers:
        check_num_clusters(max(config.subclassifiers.num_clusters), num_classes)
    for member in config.members:
        if size := _input_size(config, member):
            weigh_views(member.views or config.views, size)
        if isinstance(member.source, ImportedSource):
            raise ConfigError(
                f"the predictions of {member.name!r} were imported: there is no network to run. "
                "`ensemble search` works on them as they are."
            )


def _check_cost(config: RunConfig, kinds: Collection[str]) -> None:
    """Refuse a bound on GPU memory where there is no GPU to measure it on."""
    search = config.search
    if search.max_cost is None or search.costs or search.cost != "gpu_bytes":
        return
    if set(kinds) == {"cpu"}:
        raise ConfigError(
            f"search.max_cost is {search.max_cost:g} gpu_bytes, and the members run on CPUs: there is "
            "nothing to measure. Set search.cost to seconds, flops or parameters, or give "
            "search.costs."
        )


def _input_size(config: RunConfig, member: MemberConfig) -> int | None:
    """Side of a member's input in pixels, where its recipe says it before any file is opened."""
    if not isinstance(member.source, RecipeSource):
        return None
    return config.recipes[member.source.recipe].input_size
