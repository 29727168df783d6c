"""Opening a job: list the images, check the settings against them, take the table, start Ray."""

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager

from rich.console import Console

from cluster.pool.pool import open_pool
from cluster.prometheus import RunMetrics
from ensemble.checkpoints.load import load_member
from ensemble.errors import ConfigError
from ensemble.files import remove_abandoned
from ensemble.images.open import open_source
from ensemble.images.split import split
from ensemble.subclassifiers.embeddings import why_no_base
from jobs.checks import check_bases, check_settings
from jobs.plan.estimate import cost_cache, draft
from jobs.plan.text import plan_line
from jobs.progress.live import Progress
from jobs.run.job import Clock, Job, RunOptions
from jobs.run.train import check_classes, import_pool, import_starts
from jobs.run.writers import describe_writers
from jobs.settings import RunConfig
from jobs.stored_runs.layout import RunFolder, cache_in
from jobs.stored_runs.publish import publish_config, published
from jobs.stored_runs.tables import describe_memory, describe_table, writable_table


@contextmanager
def open_job(
    config: RunConfig, folder: RunFolder, console: Console, options: RunOptions
) -> Iterator[Job]:
    """Open everything that a run needs, and close it whatever happens.

    Raises:
        ProjectError: The settings do not fit the images, the table is taken, or Ray does not start.
    """
    clock = Clock()
    with ExitStack() as stack:
        names = [member.name for member in config.members]
        progress = stack.enter_context(Progress(console, folder.path.name, names, options.json_log))
        with progress.stage("list images"):
            source = open_source(config.image_source)
            index = source.index()
            splits = split(index, config.images.split, config.seed)
            for note in splits.notes:
                progress.say(note)
            check_settings(config, splits)
            table = stack.enter_context(writable_table(config, folder, progress.say))
            for path in remove_abandoned(cache_in(config.runs)):
                progress.say(f"removed {path}, which a run that was killed had begun to write")
            store = published(config, folder)
            if store is not None:
                publish_config(store, config)
            progress.keep(folder.progress_json)
            size = len(splits.search) + len(splits.test), len(splits.test.classes)
            disk = describe_table(config, table.root, *size)
            progress.say(f"{disk}; {describe_memory(config)}")
        imported = import_pool(config, index.classes, progress)
        starts = import_starts(config, len(index.classes), progress)
        with progress.stage("start Ray"):
            costs = cost_cache(config)
            pool = stack.enter_context(open_pool(config.cluster, config.image_source, costs))
            plan, _, unknown = draft(config, pool.devices, *size)
            progress.say(plan_line(plan, not unknown))
            progress.say(describe_writers(table.root, pool.is_on_this_machine))
            _check_cost(config, {device.kind for device in pool.devices})
        metrics = RunMetrics(folder.path.name)
        stack.enter_context(progress.measured(metrics, lambda: pool.retries_by_name))
        job = Job(
            config=config,
            folder=folder,
            options=options,
            source=source,
            data_sha256=index.sha256,
            splits=splits,
            table=table,
            imported=imported,
            starts=starts,
            pool=pool,
            progress=progress,
            store=store,
            clock=clock,
        )
        _check_imported(job)
        yield job


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


def _check_imported(job: Job) -> None:
    """Refuse, before anything is trained, imported weights that do not fit.

    Raises:
        ConfigError: A member has other classes, or no member can be fine-tuned as the settings want.
    """
    heads = dict[str, str | None]()
    for name, path in job.imported.items():
        member = load_member(
            name, path, job.config.views, job.data_sha256, trust_code=job.trust_code
        )
        check_classes(member, len(job.splits.test.classes))
        heads[name] = "" if why_no_base(member) else member.head or "weight"
    check_bases(job.config, heads)
