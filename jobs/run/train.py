"""The pool: weights brought from elsewhere, and networks trained side by side where none are kept."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ensemble.checkpoints.header import is_whole, read_metadata, read_notes
from ensemble.checkpoints.load import load_member
from ensemble.errors import CheckpointError, ConfigError, MemberFailedError
from ensemble.images.index import ImageIndex
from ensemble.images.shard import ShardSpec, plan_shards
from ensemble.images.split import Splits
from ensemble.members.member import Member, in_precision, split_views
from ensemble.members.settings import MemberConfig, put_onto
from ensemble.members.source_settings import MemberSource, RecipeSource
from ensemble.training.task import Reading, Seeds, Start, TrainTask, hold_out
from ensemble.views.policies import weigh_views
from jobs.checks import check_crop
from jobs.pools import fetched, fetched_source
from jobs.progress.live import Progress
from jobs.run.filling import SpareBlocks
from jobs.run.job import Job, seed_of
from jobs.settings import RunConfig
from jobs.stored_runs.layout import cache_in


def import_pool(config: RunConfig, classes: Sequence[str], progress: Progress) -> dict[str, Path]:
    """Bring the members that are not trained here into checkpoints, by name.

    Raises:
        ConfigError: The weights of a member cannot be had, or do not fit.
    """
    published = [m for m in config.members if not isinstance(m.source, RecipeSource)]
    if not published:
        return {}
    # Here, because a run that trains all its members need not pay for torch in the driver.
    from ensemble.pretrained.import_member import import_member

    cache, paths = cache_in(config.runs), {}
    with progress.stage("load weights", len(published), "members") as stage:
        for member in published:
            try:
                here = fetched(member, config.storage, cache)
                paths[member.name] = import_member(
                    here, classes, config.weights, cache, progress.say
                )
            except CheckpointError as error:
                raise ConfigError(
                    f"the member {member.name!r} cannot be loaded: {error}"
                ) from error
            for note in read_notes(paths[member.name]):
                progress.say(f"{member.name}: {note}")
            progress.member(member.name, "loaded")
            stage.advance()
    return paths


def import_starts(config: RunConfig, num_classes: int, progress: Progress) -> dict[str, Start]:
    """Bring published weights that trainings start from into checkpoints, by the name of the trained member.

    Raises:
        ConfigError: The weights of a start cannot be had, or do not fit the network that is trained.
    """
    sources = {
        member: member.source.start
        for member in config.members
        if isinstance(member.source, RecipeSource)
        and member.source.start is not None
        and not isinstance(member.source.start, MemberSource)
    }
    if not sources:
        return {}
    from ensemble.pretrained.import_member import import_start

    cache, starts = cache_in(config.runs), dict[str, Start]()
    with progress.stage("load weights to start from", len(sources), "members") as stage:
        for member, source in sources.items():
            try:
                here = fetched_source(source, config.storage, cache)
                path = import_start(
                    member.name, here, member.preprocessing, config.weights, cache, progress.say
                )
                starts[member.name] = _start(config, member, path, num_classes)
            except CheckpointError as error:
                raise ConfigError(
                    f"the member {member.name!r} cannot start from these weights: {error}"
                ) from error
            stage.advance()
    return starts


def _start(config: RunConfig, member: MemberConfig, path: Path, num_classes: int) -> Start:
    """Read what weights are, and try whether the network that is trained can start from them."""
    # Here, because a run that trains all its members from fresh weights need not pay for torch in the driver.
    from ensemble.training.start import try_start

    source, views = member.source, member.views or config.views
    assert isinstance(source, RecipeSource)
    weights = load_member(member.name, path, views, "", trust_code=config.weights.trust_code)
    if member.preprocessing is not None:
        weights = replace(
            weights, preprocessing=put_onto(weights.preprocessing, member.preprocessing)
        )
    weigh_views(views, weights.preprocessing.size)
    check_crop(config, member, weights.preprocessing.size)
    start = Start(weights, source.take, source.new_head)
    try_start(member.name, source.architecture or weights.architecture, num_classes, start)
    return start


def load_or_train(job: Job) -> tuple[Member, ...]:
    """Train the members whose weights are not there yet, side by side, and load all of them.

    Where views are kept, a member of the config is one member for each of them.
    """
    tasks = _train_pool(job)
    members: list[Member] = []
    for config in job.config.members:
        task = tasks.get(config.name)
        paths = {"": task.checkpoint} | task.extras if task else {"": job.imported[config.name]}
        for extra, path in paths.items():
            members += split_views(load_trained(job, config, f"{config.name}{extra}", path))
    return tuple(members)


def load_trained(job: Job, config: MemberConfig, name: str, path: Path) -> Member:
    """Load a member as its config wants it, and refuse one that does not fit the images.

    Raises:
        ConfigError: The number of classes differs.
    """
    views = config.views or job.config.views
    member = load_member(name, path, views, job.data_sha256, trust_code=job.trust_code)
    if isinstance(config.source, RecipeSource):
        # The seed that tells it from its twin, not the one derived from it for the generator.
        member = replace(member, seed=config.source.seed)
    member = in_precision(member, config.precision or job.config.precision)
    check_classes(member, len(job.splits.test.classes))
    weigh_views(member.views, member.preprocessing.size)
    return member


def _train_pool(job: Job) -> dict[str, TrainTask]:
    """Train the members of the config; one that starts from another member follows that one."""
    tasks = dict[str, TrainTask]()
    waiting = {m.name: m for m in job.config.members if isinstance(m.source, RecipeSource)}
    while True:
        ready = {
            name: plan_training(
                job.config, member, job.splits.train, tasks, job.imported, job.starts
            )
            for name, member in waiting.items()
            if base_name(member) not in waiting
        }
        train_tasks(job, "train further" if tasks else "train", job.splits, list(ready.values()))
        tasks |= ready
        waiting = {name: member for name, member in waiting.items() if name not in ready}
        if not waiting:
            return tasks


def base_name(member: MemberConfig) -> str | None:
    """Return the name of the member of the pool that a training starts from; None if there is none."""
    start = getattr(member.source, "start", None)
    return start.name if isinstance(start, MemberSource) else None


def plan_training(
    config: RunConfig,
    member: MemberConfig,
    train: ImageIndex,
    tasks: Mapping[str, TrainTask],
    imported: Mapping[str, Path],
    starts: Mapping[str, Start],
) -> TrainTask:
    """Plan the training of a member by its recipe.

    Args:
        config: The settings of the run.
        member: The member; its source is a recipe.
        train: Images of the train split.
        tasks: Trainings that are done, by the name of the member.
        imported: Checkpoints of members that are not trained here, by name.
        starts: Published weights that trainings start from, by the name of the trained member.

    Raises:
        ConfigError: The weights of the member that it starts from do not fit, or the recipe's validation
            has no image of a class.
    """
    source = member.source
    if not isinstance(source, RecipeSource):
        raise TypeError(f"{member.name} is not trained here.")
    start = starts.get(member.name)
    if (name := base_name(member)) is not None:
        path = tasks[name].checkpoint if name in tasks else imported[name]
        try:
            start = _start(config, member, path, len(train.classes))
        except CheckpointError as error:
            raise ConfigError(
                f"the member {member.name!r} cannot start from {name!r}: {error}"
            ) from error
    architecture = source.architecture or (start.weights.architecture if start else None)
    assert architecture is not None  # the settings refuse a source without either
    recipe, images, stopping = config.recipes[source.recipe], train, None
    if recipe.validation is not None:
        # One draw for all members, so that they can be compared while they train.
        images, stopping = hold_out(train, recipe.validation, seed_of(config, "validation"))
    return TrainTask(
        name=member.name,
        architecture=architecture,
        recipe=recipe,
        seed=seed_of(config, "member", source.seed),
        images=images,
        stopping=stopping,
        classes=tuple(range(len(train.classes))),
        folder=cache_in(config.runs),
        start=start,
        reading=Reading(config.image_source, config.training.disk_mb),
        checkpoint_s=config.training.checkpoint_s,
        seeds=_seeds_of(config, source),
    )


def _seeds_of(config: RunConfig, source: RecipeSource) -> Seeds | None:
    if source.seeds is None:
        return None
    numbers = (source.seeds.start, source.seeds.order, source.seeds.augmentation)
    start, order, augmentation = (
        seed_of(config, "member", source.seed if number is None else number) for number in numbers
    )
    return Seeds(start, order, augmentation)


def train_tasks(
    job: Job,
    stage_name: str,
    splits: Splits,
    tasks: Sequence[TrainTask],
    may_fail: bool = False,
    predicted: Sequence[Member] = (),
) -> dict[str, str]:
    """Train what has no weights yet, side by side, in the order of the tasks.

    Args:
        job: The run.
        stage_name: Name of the stage that a person watches.
        splits: The images that shards are cut from.
        tasks: What is to be trained.
        may_fail: Go on with the others where one fails.
        predicted: Members whose missing blocks are computed by workers that have nothing to train.

    Returns:
        Why tasks failed, by name; always empty unless they may fail.

    Raises:
        MemberFailedError: A task failed for good, and `may_fail` is false; or a prediction did.
    """
    by_key, weights = {task.key: task for task in tasks}, job.weights
    for task in by_key.values():
        _drop_damaged(job, task)
    if weights:
        weights.bring(path for task in by_key.values() for path in task.files)
    todo = [task for task in by_key.values() if not task.is_done]
    for task in tasks:
        job.progress.member(task.name, "queued" if task in todo else "weights cached")
    shards = _shards_of(job, splits, todo)
    failures: dict[str, str] = {}

    def start(name: str) -> None:
        job.progress.member(name, "training")

    with job.progress.stage(stage_name, len(todo), "networks") as stage:
        stage.look = lambda: _epochs(todo)
        left = todo
        while left:
            spare = SpareBlocks(job, predicted)
            try:
                for task in job.pool.train(left, shards, start, spare.work):
                    if weights:
                        for path in task.files:
                            weights.keep(path)
                    job.progress.member(task.name, "trained")
                    stage.advance()
            except MemberFailedError as error:
                if not may_fail or error.name not in {task.name for task in left}:
                    raise
                # The pool gives up what else was under way; it goes on from its last epoch.
                failures[error.name] = str(error)
                job.progress.member(error.name, "failed")
                job.progress.say(str(error))
            finally:
                spare.finish()
            left = [t for t in left if t.name not in failures and not t.is_done]
    job.counts.trained += len(todo) - len(failures)
    job.counts.from_cache += len(by_key) - len(todo)
    return failures


def _epochs(tasks: Sequence[TrainTask]) -> dict[str, str]:
    """Tell how many epochs each training under way has behind it, by the name of its task."""
    epochs = {}
    for task in tasks:
        try:
            log = json.loads(read_metadata(task.progress)["log"])
        except CheckpointError:
            continue  # it has not begun, or is done
        epochs[task.name] = f"epoch {len(log)} of {task.recipe.epochs}"
    return epochs


def _drop_damaged(job: Job, task: TrainTask) -> None:
    """Remove weights, and a training under way, whose bytes changed since they were written."""
    for path, consequence in (
        *((path, "the weights are trained again") for path in task.files),
        (task.progress, "the training begins anew"),
    ):
        if path.is_file() and not is_whole(path):
            path.unlink()
            job.progress.say(f"{task.name}: {path} is damaged and was removed; {consequence}")


def _shards_of(job: Job, splits: Splits, tasks: Sequence[TrainTask]) -> list[ShardSpec]:
    """Cut shards with the images that tasks train on or are stopped by, as for other stages.

    So that no image is decoded twice: a shard is known by its ids.
    """
    tasks = [task for task in tasks if not task.reads_images]
    needed = {str(image_id) for task in tasks for image_id in task.images.image_ids}
    for stopping in (task.stopping for task in tasks if task.stopping):
        needed |= {str(image_id) for image_id in stopping.images.image_ids}
    size = job.config.cluster.shard_images
    shards = (
        *plan_shards(splits.train.image_ids.tolist(), size),
        *plan_shards(splits.predicted_ids, size),
    )
    return [spec for spec in shards if not needed.isdisjoint(spec.image_ids)]


def check_classes(member: Member, num_classes: int) -> None:
    """Refuse a member of other classes than the images'.

    Raises:
        ConfigError: The number of classes differs.
    """
    if member.classes != tuple(range(num_classes)):
        raise ConfigError(
            f"the checkpoint {member.checkpoint} of member {member.name!r} has "
            f"{len(member.classes)} classes, and the images have {num_classes}. Give a checkpoint "
            "that was trained on the same classes."
        )
