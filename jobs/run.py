"""The main job: from labelled images and a pool of members to an ensemble, an artifact and a report."""

import platform
import socket
import time
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np
from rich.console import Console

from cluster.metrics import RunMetrics
from cluster.pool import open_pool
from ensemble import predictor
from ensemble.errors import ConfigError
from ensemble.evaluation import (
    StreamingOutranking,
    calibrate_answers,
    calibrate_members,
    evaluate,
)
from ensemble.images.shard import BadImage
from ensemble.images.sources import Source, open_source
from ensemble.images.split import Splits, split
from ensemble.members import Member, MemberConfig
from ensemble.report import document
from ensemble.report.build import Findings, build, frontier_key
from ensemble.report.page import render
from ensemble.search.config import SearchConfig
from ensemble.search.fit import fit
from ensemble.search.fixed_point import WEIGHT_UNITS
from ensemble.search.frontier import cost_frontier
from ensemble.search.missing import weights_among_selected
from ensemble.search.outranking import OutrankingTable
from ensemble.search.result import Ensemble
from ensemble.sources.settings import ImportedSource, RecipeSource
from ensemble.subclassifiers.fitted import Subclassified
from ensemble.subclassifiers.label_clusters import check_num_clusters
from ensemble.table.store import Store
from ensemble.view_policies import weigh_views
from jobs.fine_tune import check_imported, judge_on_test, search_and_fine_tune
from jobs.flow import (
    Counts,
    Job,
    drop_bad_images,
    fill_table,
    import_pool,
    search_config,
    train_pool,
)
from jobs.kept_weights import KeptWeights
from jobs.other_runs import OtherRuns
from jobs.plan import draft, figure_cache
from jobs.plan_text import plan_line
from jobs.progress import Progress
from jobs.publish import publish_config, publish_results, published
from jobs.revision import read_revision
from jobs.run_folder import RunFolder, write
from jobs.settings import RunConfig
from jobs.tables import describe_memory, describe_table, writable_table

# Versions that can change a figure; those that cannot are told apart in the report.
_NUMERIC = ("numpy", "scikit-learn", "torch", "torchvision")
_OTHER = ("ray", "pyarrow")


@dataclass(frozen=True)
class _Clock:
    """When the run began."""

    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started: float = field(default_factory=time.perf_counter)


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


def _predict(
    job: Job, members: tuple[Member, ...], allow_partial: bool
) -> tuple[tuple[Member, ...], tuple[BadImage, ...], StreamingOutranking]:
    """Fill the table; give the members at their temperatures, and what is left out."""
    table, shard_images = job.table, job.config.cluster.shard_images
    if not job.config.temperature:
        outranking = StreamingOutranking(table, members, job.splits.search, shard_images)
        fill_table(job, "predict", members, outranking)
        return members, drop_bad_images(job, members, allow_partial), outranking
    fill_table(job, "predict", members)
    bad = drop_bad_images(job, members, allow_partial)
    search = job.splits.search
    with job.progress.stage("temperatures"):
        members = calibrate_members(table, members, search, job.config.seed)
    return members, bad, StreamingOutranking(table, members, search, shard_images)


def _publish(store: Store, folder: RunFolder, progress: Progress) -> None:
    with progress.stage("publish"):
        publish_results(store, folder)
    progress.say(f"published: {store.url}")


def _write_report(
    folder: RunFolder, job: Job, findings: Findings, source: Source, clock: _Clock
) -> document.Report:
    settings = job.config.report
    report = build(
        folder.path.name,
        _identity(job.config, job.data_sha256),
        (settings.top_k, settings.resamples, settings.max_examples),
        findings,
        job.table,
        source.decode,
        _execution(job, clock),
    )
    write(folder.report_json, report.model_dump_json(indent=2) + "\n")
    write(folder.report_html, render(report))
    return report


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


def _evaluate(
    job: Job,
    members: tuple[Member, ...],
    bad: tuple[BadImage, ...],
    ensemble: Ensemble,
    outranking: OutrankingTable,
    subclassifiers: Subclassified | None,
) -> Findings:
    selected = (ensemble.weights > 0).astype(np.int64) * WEIGHT_UNITS
    weightings = {
        "uniform_all": np.full(len(members), WEIGHT_UNITS),
        "uniform_selected": selected,
        "ensemble": ensemble.units,
    }
    settings, paper = search_config(job, members), None
    frontier = cost_frontier(outranking, settings, [ensemble]) if settings.costs else ()
    weightings |= {frontier_key(i): point.ensemble.units for i, point in enumerate(frontier)}
    if ensemble.kind != "paper":
        of_paper = SearchConfig(kind="paper", k=settings.k, objective=settings.objective)
        paper = fit(outranking, of_paper)
        weightings["paper"] = paper.units
    images, units, routing = job.splits.search, ensemble.units, None
    if subclassifiers is not None and subclassifiers.is_used:
        images, units = subclassifiers.choosing, subclassifiers.units
        routing = subclassifiers.fitted()
    return Findings(
        splits=job.splits,
        bad=bad,
        members=members,
        ensemble=ensemble,
        outranking=outranking,
        search=evaluate(job.table, members, job.splits.search, {}),
        test=evaluate(job.table, members, job.splits.test, weightings),
        calibration=calibrate_answers(
            job.table, members, images, job.splits.test, (units, routing), job.config.seed
        ),
        subclassifiers=subclassifiers,
        routed=judge_on_test(job, members, subclassifiers) if subclassifiers else None,
        subclassifier_settings=job.config.subclassifiers,
        paper=paper,
        settings=settings,
        cost_unit=("as given" if job.config.search.costs else settings.cost) if frontier else None,
        frontier=frontier,
    )


def _save_artifact(folder: RunFolder, findings: Findings) -> None:
    found = findings.subclassifiers if findings.is_routing else None
    units = findings.ensemble.units if found is None else found.units
    # Weights for the loss of a member are those of the ensemble.
    has_fallbacks = bool((units == findings.ensemble.units).all())
    predictor.save(
        folder.artifact,
        findings.members,
        units,
        findings.splits.test.classes,
        findings.ensemble.kind,
        found.fitted() if found else None,
        weights_among_selected(findings.outranking, findings.ensemble, findings.settings)
        if has_fallbacks
        else (),
        findings.calibration.temperature.value if findings.calibration else 1.0,
    )


def _identity(config: RunConfig, data_sha256: str) -> document.Identity:
    revision = read_revision()
    return document.Identity(
        config_sha256=config.identity,
        data_sha256=data_sha256,
        git_commit=revision.git_commit,
        git_dirty=revision.git_dirty,
        seed=config.seed,
        versions={name: version(name) for name in _NUMERIC},
    )


def _execution(job: Job, clock: _Clock) -> document.Execution:
    counts = job.counts
    return document.Execution(
        started_at=clock.started_at,
        host=socket.gethostname(),
        hosts=job.pool.num_hosts,
        seconds_total=time.perf_counter() - clock.started,
        stages=tuple(
            document.Stage(name=stage.name, seconds=stage.elapsed) for stage in job.progress.stages
        ),
        shard_images=job.config.cluster.shard_images,
        trained=counts.trained,
        from_cache=counts.from_cache,
        forward_passes=counts.forward_passes,
        decoded_images=job.pool.decoded_images,
        images_per_s=counts.forward_passes / counts.predict_seconds
        if counts.predict_seconds
        else 0,
        retries=document.Retries(
            calls=job.pool.retries, requests=job.table.retries + job.pool.image_retries
        ),
        versions={
            "python": platform.python_version(),
            "platform": platform.platform(),
            **{name: version(name) for name in _OTHER},
        },
    )


def _summary(counts: Counts) -> str:
    return (
        f"{counts.trained} members and sub-classifiers trained, {counts.from_cache} from cache; "
        f"{counts.forward_passes} forward passes"
    )
