"""Writing what a run found: the artifact, the report and its page, and their copies at s3://."""

import platform
import socket
from collections.abc import Sequence
from importlib.metadata import version

from ensemble.artifact.from_table import golden_from_table
from ensemble.artifact.write import save as save_artifact
from ensemble.files import write_atomic
from ensemble.images.settings import describe_source
from ensemble.members.member import Member
from ensemble.report.build.findings import Findings
from ensemble.report.build.run import build
from ensemble.report.documents import provenance
from ensemble.report.documents import run as document
from ensemble.report.pages.run import render
from ensemble.table.overview import summarise
from jobs.about import about_run
from jobs.run.job import Job
from jobs.settings import RunConfig
from jobs.stored_runs.publish import publish_results
from jobs.stored_runs.revision import read_revision

# Versions that can change a figure; those that cannot are told apart in the report.
_NUMERIC = ("numpy", "scikit-learn", "torch", "torchvision")
_OTHER = ("ray", "pyarrow")


def save(job: Job, findings: Findings) -> document.Report:
    """Write artifact and report into the run's folder, and publish them where that is set."""
    with job.progress.stage("report"):
        report = _build_report(job, findings)
        _save_artifact(job, findings, report)
        # After the artifact: a run with a report is a run that is finished.
        write_atomic(job.folder.report_json, report.model_dump_json(indent=2) + "\n")
        write_atomic(job.folder.report_html, render(report))
    if job.store is not None:
        with job.progress.stage("publish"):
            publish_results(job.store, job.folder)
        job.progress.say(f"published: {job.store.url}")
    job.progress.say(job.counts.describe())
    return report


def _save_artifact(job: Job, findings: Findings, report: document.Report) -> None:
    subclassified = findings.subclassifiers if findings.is_routing else None
    answer, members = findings.answer.ensemble, findings.members
    weighting = answer.weighting if subclassified is None else subclassified.weighting
    routing = subclassified.fitted() if subclassified else None
    temperature = findings.calibration.temperature.value if findings.calibration else 1.0
    sets = findings.calibration.sets if findings.calibration else None
    test, costs = findings.splits.test, {m.name: findings.costs.get(m.column, {}) for m in members}
    golden = golden_from_table(
        job.table, members, weighting, routing, temperature, test, job.source.decode
    )
    save_artifact(
        job.folder.artifact,
        members,
        weighting,
        test.classes,
        answer.kind,
        routing,
        findings.fallbacks,
        temperature,
        about_run(job.config, report, costs, golden),
        conformal=sets.sets if sets else None,
    )


def _build_report(job: Job, findings: Findings) -> document.Report:
    settings = job.config.report
    top_k = settings.fit_top_k(len(job.splits.test.classes))
    return build(
        job.folder.path.name,
        _identity(job.config, job.data_sha256),
        (top_k, settings.resamples, settings.max_examples),
        findings,
        job.table,
        job.source.decode,
        _execution(job, findings.members),
    )


def _identity(config: RunConfig, data_sha256: str) -> provenance.Identity:
    revision = read_revision()
    return provenance.Identity(
        config_sha256=config.identity,
        data_sha256=data_sha256,
        git_commit=revision.git_commit,
        git_dirty=revision.git_dirty,
        seed=config.seed,
        versions={name: version(name) for name in _NUMERIC},
    )


def _execution(job: Job, members: Sequence[Member]) -> provenance.Execution:
    counts, columns = job.counts, {member.column for member in members}
    return provenance.Execution(
        started_at=job.clock.started_at,
        host=socket.gethostname(),
        images=describe_source(job.config.image_source),
        hosts=job.pool.num_hosts,
        seconds_total=job.clock.seconds,
        stages=tuple(
            provenance.Stage(name=stage.name, seconds=stage.elapsed)
            for stage in job.progress.stages
        ),
        shard_images=job.config.cluster.shard_images,
        trained=counts.trained,
        from_cache=counts.from_cache,
        forward_passes=counts.forward_passes,
        decoded_images=job.pool.decoded_images,
        images_per_s=counts.forward_passes / counts.predict_seconds
        if counts.predict_seconds
        else 0,
        mixed_columns=tuple(
            provenance.MixedColumn(
                member=column.member, rows_by_device_kind=column.rows_by_device_kind
            )
            for column in summarise(job.table.commits())
            if column.column in columns and column.is_mixed
        ),
        retries=provenance.Retries(
            calls=job.pool.retries, requests=job.table.retries + job.pool.image_retries
        ),
        versions={
            "python": platform.python_version(),
            "platform": platform.platform(),
            **{name: version(name) for name in _OTHER},
        },
    )
