"""The stages of the main job that compute on the pool: train and predict."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cluster.placement import Plan
from cluster.pool import Pool
from ensemble.errors import CheckpointError, ConfigError, DataError, MemberFailedError
from ensemble.evaluation import StreamingOutranking
from ensemble.images.index import ImageIndex
from ensemble.images.shard import BadImage, ShardSpec, plan_shards
from ensemble.images.split import Splits
from ensemble.members import (
    Member,
    MemberConfig,
    fingerprint,
    in_precision,
    load_member,
    split_views,
)
from ensemble.search.config import CostUnit, SearchConfig
from ensemble.sources.settings import RecipeSource
from ensemble.table.logit_table import LogitTable
from ensemble.training.header import read_bad_images
from ensemble.training.task import TrainTask
from ensemble.view_policies import weigh_views
from jobs.finished_run import measured_costs
from jobs.kept_weights import KeptWeights
from jobs.other_runs import OtherRuns
from jobs.partial import left_out_images
from jobs.plan_text import plan_line
from jobs.pools import fetched
from jobs.progress import Progress
from jobs.settings import RunConfig


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


def import_pool(config: RunConfig, classes: Sequence[str], progress: Progress) -> dict[str, Path]:
    """Bring the members that are not trained here into checkpoints, by name.

    Raises:
        ConfigError: The weights of a member cannot be had, or do not fit.
    """
    given = [m for m in config.members if not isinstance(m.source, RecipeSource)]
    if not given:
        return {}
    # Here, because a run that trains all its members need not pay for torch in the driver.
    from ensemble.sources.open import import_member

    cache, paths = cache_of(config), {}
    with progress.stage("load weights", len(given), "members") as stage:
        for member in given:
            try:
                paths[member.name] = import_member(
                    fetched(member, config.storage, cache), classes, config.weights, cache
                )
            except CheckpointError as error:
                raise ConfigError(
                    f"the member {member.name!r} cannot be loaded: {error}"
                ) from error
            progress.member(member.name, "loaded")
            stage.advance()
    return paths


def train_pool(job: Job) -> tuple[Member, ...]:
    """Train the members whose weights are not there yet, side by side; load what each one says.

    Where views are kept, a member of the config is one member for each of them.
    """
    tasks = {
        member.name: _task(job, member)
        for member in job.config.members
        if isinstance(member.source, RecipeSource)
    }
    train_tasks(job, "train", list(tasks.values()))
    members: list[Member] = []
    for config in job.config.members:
        is_trained = config.name in tasks
        path = tasks[config.name].checkpoint if is_trained else job.imported[config.name]
        views = config.views or job.config.views
        member = load_member(config.name, path, views, job.data_sha256, trust_code=job.trust_code)
        if isinstance(config.source, RecipeSource):
            # The seed that tells it from its twin, not the one derived from it for the generator.
            member = replace(member, seed=config.source.seed)
        member = in_precision(member, config.precision or job.config.precision)
        check_classes(member, len(job.splits.test.classes))
        weigh_views(member.views, member.preprocessing.size)
        members += split_views(member)
    return tuple(members)


def fill_table(
    job: Job,
    stage_name: str,
    members: Sequence[Member],
    outranking: StreamingOutranking | None = None,
) -> None:
    """Compute the blocks that the table lacks on the search and test splits, and commit each one.

    An outranking table that is given reads them as they arrive.
    """
    images, work = _predicted_images(job), []
    if job.others:
        job.others.lend(job.table, members, images, job.progress.say)
    for spec in plan_shards(images, job.config.cluster.shard_images):
        lacking = [m for m in members if job.table.missing(m.column, spec.image_ids)]
        if lacking:
            work.append((spec, lacking))
    total = sum(len(lacking) for _, lacking in work)
    todo = {m.name: sum(m in lacking for _, lacking in work) for m in members}
    with job.progress.stage(stage_name, total, "blocks") as stage:
        for member, block in job.pool.predict(work, job.say_plan):
            job.table.commit(member, block)
            if outranking:
                outranking.landed()
            todo[member.name] -= 1
            job.progress.member(
                member.name,
                "predicting",
                f"{todo[member.name]} blocks to go",
                block.forward_passes,
                block.seconds,
            )
            job.counts.forward_passes += block.forward_passes
            job.counts.predict_seconds += block.seconds
            stage.advance(images=block.forward_passes)
            if not todo[member.name]:
                job.progress.member(member.name, "predicted")
    for out in job.pool.left_out:
        job.progress.member(out.member.name, "predicted in part")


def drop_bad_images(
    job: Job, members: Sequence[Member], allow_partial: bool = False
) -> tuple[BadImage, ...]:
    """Leave out, for every member alike, what could not be decoded.

    With `allow_partial` also what killed its worker every time.

    Raises:
        DataError: There is more of it than the config accepts.
        PartialError: Blocks are missing, and that is not allowed.
    """
    poison = left_out_images(job.pool.left_out, allow_partial)
    found = {bad.image_id: bad for bad in job.table.bad_images(m.column for m in members)}
    for member in members:
        found |= {bad.image_id: bad for bad in read_bad_images(member.checkpoint)}
    bad = tuple(found[image_id] for image_id in sorted(found))
    if len(bad) > job.config.images.max_bad_images:
        shown = "; ".join(f"{image.image_id}: {image.reason}" for image in bad[:5])
        raise DataError(
            f"{len(bad)} images cannot be decoded, and images.max_bad_images is "
            f"{job.config.images.max_bad_images}. {shown}{' …' if len(bad) > 5 else ''}. Mend or "
            "remove them, or raise images.max_bad_images to leave them out."
        )
    without = found | {image.image_id: image for image in poison}
    job.splits = Splits(*(_without(part, without) for part in vars(job.splits).values()))
    return tuple(without[image_id] for image_id in sorted(without))


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


def _task(job: Job, member: MemberConfig) -> TrainTask:
    source = member.source
    if not isinstance(source, RecipeSource):
        raise TypeError(f"{member.name} is not trained here.")
    return TrainTask(
        name=member.name,
        architecture=source.architecture,
        recipe=job.config.recipes[source.recipe],
        seed=job.seed_of("member", source.seed),
        images=job.splits.train,
        classes=tuple(range(len(job.splits.train.classes))),
        folder=job.cache,
    )


def train_tasks(
    job: Job, stage_name: str, tasks: Sequence[TrainTask], may_fail: bool = False
) -> dict[str, str]:
    """Train what has no weights yet, side by side, in the order given.

    Returns:
        Why tasks failed, by name; always empty unless they may fail.

    Raises:
        MemberFailedError: A task failed for good, and may not.
    """
    by_key = {task.key: task for task in tasks}
    if job.weights:
        job.weights.bring(task.checkpoint for task in by_key.values())
    todo = [task for task in by_key.values() if not task.checkpoint.exists()]
    for task in tasks:
        job.progress.member(task.name, "queued" if task in todo else "weights cached")
    shards = _shards_of(job, todo)
    failures: dict[str, str] = {}

    def start(name: str) -> None:
        job.progress.member(name, "training")

    with job.progress.stage(stage_name, len(todo), "networks") as stage:
        left = todo
        while left:
            try:
                for task in job.pool.train(left, shards, start):
                    if job.weights:
                        job.weights.keep(task.checkpoint)
                    job.progress.member(task.name, "trained")
                    stage.advance()
            except MemberFailedError as error:
                if not may_fail:
                    raise
                # The pool gives up what else was under way; it goes on from its last epoch.
                failures[error.name] = str(error)
                job.progress.member(error.name, "failed")
                job.progress.say(str(error))
            left = [t for t in left if t.name not in failures and not t.checkpoint.exists()]
    job.counts.trained += len(todo) - len(failures)
    job.counts.from_cache += len(by_key) - len(todo)
    return failures


def _shards_of(job: Job, tasks: Sequence[TrainTask]) -> list[ShardSpec]:
    """Shards with the images that tasks train on or are stopped by, cut as for other stages.

    So that no image is decoded twice: a shard is known by its ids.
    """
    shown = {str(image_id) for task in tasks for image_id in task.images.image_ids}
    for stopping in (task.stopping for task in tasks if task.stopping):
        shown |= {str(image_id) for image_id in stopping.images.image_ids}
    size = job.config.cluster.shard_images
    shards = (
        *plan_shards(job.splits.train.image_ids.tolist(), size),
        *plan_shards(_predicted_images(job), size),
    )
    return [spec for spec in shards if not shown.isdisjoint(spec.image_ids)]


def _predicted_images(job: Job) -> list[str]:
    return [*job.splits.search.image_ids.tolist(), *job.splits.test.image_ids.tolist()]


def _without(part: ImageIndex, bad: dict[str, BadImage]) -> ImageIndex:
    return part.take(np.flatnonzero([str(i) not in bad for i in part.image_ids]))


def check_classes(member: Member, num_classes: int) -> None:
    """Refuse a member of other classes than the images'.

    Raises:
        ConfigError: It is.
    """
    if member.classes != tuple(range(num_classes)):
        raise ConfigError(
            f"the checkpoint {member.checkpoint} of member {member.name!r} has "
            f"{len(member.classes)} classes, and the images have {num_classes}. Give a checkpoint "
            "that was trained on the same classes."
        )
