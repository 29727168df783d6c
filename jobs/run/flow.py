"""The main job: from labelled images and a pool of members to an ensemble, an artifact and a report."""

from contextlib import ExitStack

from rich.console import Console

from cluster.pool.pool import open_pool
from cluster.prometheus import RunMetrics
from ensemble.images.open import open_source
from ensemble.images.split import split
from ensemble.report.documents import run as document
from jobs.plan.estimate import draft, figure_cache
from jobs.plan.text import plan_line
from jobs.progress.live import Progress
from jobs.run.job import Counts, Job, _check, _check_cost
from jobs.run.judge import _evaluate
from jobs.run.predict import _predict
from jobs.run.save import _Clock, _publish, _save_artifact, _write_report
from jobs.run.search import search_and_fine_tune
from jobs.run.subclassifiers import check_imported
from jobs.run.train import import_pool, train_pool
from jobs.settings import RunConfig
from jobs.stored_runs.layout import RunFolder
from jobs.stored_runs.other_runs import OtherRuns
from jobs.stored_runs.publish import publish_config, published
from jobs.stored_runs.tables import describe_memory, describe_table, writable_table
from jobs.stored_runs.weights import KeptWeights


def run(
    config: RunConfig,
    folder: RunFolder,
    console: Console,
    allow_partial: bool = False,
    json_log: bool = False,
) -> document.Report:
    """Do the whole job, computing only what is not there yet.

    Args:
        config: Checked settings.
        folder: Where the run's files go; what an earlier attempt left there is used.
        console: Where progress goes.
        allow_partial: Leave out the images of blocks that kill their worker every time.
        json_log: Print progress as JSON, for programs.

    Raises:
        ProjectError: With one message that says what, what was expected, and what to do.
    """
    clock = _Clock()
    with ExitStack() as stack:
        names = [member.name for member in config.members]
        progress = stack.enter_context(Progress(console, folder.path.name, names, json_log))
        with progress.stage("list images"):
            source = open_source(config.image_source)
            index = source.index()
            splits = split(index, config.images.split, config.seed)
            _check(config, splits)
            table = stack.enter_context(writable_table(config, folder))
            store = published(config, folder)
            if store is not None:
                publish_config(store, config)
            progress.keep(folder.progress_json)
            size = len(splits.search) + len(splits.test), len(splits.test.classes)
            disk = describe_table(config, table.root, *size)
            progress.say(f"{disk}; {describe_memory(config)}")
        imported = import_pool(config, index.classes, progress)
        with progress.stage("start Ray"):
            cache = figure_cache(config)
            pool = stack.enter_context(open_pool(config.cluster, config.image_source, cache))
            planned, _, unknown = draft(config, pool.devices, *size)
            progress.say(plan_line(planned, not unknown))
            _check_cost(config, {device.kind for device in pool.devices})
        metrics = RunMetrics(folder.path.name)
        stack.enter_context(progress.measured(metrics, lambda: pool.retries_by_name))
        weights = KeptWeights(store) if store is not None else None
        had = (imported, weights, OtherRuns(config, folder))
        job = Job(config, splits, index.sha256, table, pool, progress, *had)
        check_imported(job)
        members, bad, outranking = _predict(job, train_pool(job), allow_partial)
        fitted = search_and_fine_tune(job, members, outranking)
        with progress.stage("evaluate"):
            findings = _evaluate(job, members, bad, *fitted)
        with progress.stage("report"):
            _save_artifact(folder, findings)
            report = _write_report(folder, job, findings, source, clock)
        if store is not None:
            _publish(store, folder, progress)
        progress.say(_summary(job.counts))
    return report


def _summary(counts: Counts) -> str:
    return (
        f"{counts.trained} members and sub-classifiers trained, {counts.from_cache} from cache; "
        f"{counts.forward_passes} forward passes"
    )
