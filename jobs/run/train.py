"""jobs / run / train: say here what this file is responsible for."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ensemble.checkpoints.load import load_member
from ensemble.errors import CheckpointError, ConfigError, MemberFailedError
from ensemble.images.shard import ShardSpec, plan_shards
from ensemble.members.member import Member, in_precision, split_views
from ensemble.members.settings import MemberConfig
from ensemble.members.source_settings import RecipeSource
from ensemble.training.task import TrainTask
from ensemble.views.policies import weigh_views
from jobs.pools import fetched
from jobs.progress.live import Progress
from jobs.run.job import Job, cache_of
from jobs.run.predict import _predicted_images
from jobs.settings import RunConfig


def import_pool(config: RunConfig, classes: Sequence[str], progress: Progress) -> dict[str, Path]:
    """Bring the members that are not trained here into checkpoints, by name.

    Raises:
        ConfigError: The weights of a member cannot be had, or do not fit.
    """
    given = [m for m in config.members if not isinstance(m.source, RecipeSource)]
    if not given:
        return {}
    # Here, because a run that trains all its members need not pay for torch in the driver.
    from ensemble.pretrained.import_member import import_member

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
