"""jobs / run / save: say here what this file is responsible for."""

import platform
import socket
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version

from ensemble.artifact.write import save as save_artifact
from ensemble.images.open import Source
from ensemble.report.build.run import Findings, build
from ensemble.report.documents import run as document
from ensemble.report.pages.run import render
from ensemble.search.fallbacks import weights_among_selected
from ensemble.storage.store import Store
from jobs.progress.live import Progress
from jobs.run.job import Job
from jobs.settings import RunConfig
from jobs.stored_runs.layout import RunFolder, write
from jobs.stored_runs.publish import publish_results
from jobs.stored_runs.revision import read_revision

# Versions that can change a figure; those that cannot are told apart in the report.
_NUMERIC = ("numpy", "scikit-learn", "torch", "torchvision")


_OTHER = ("ray", "pyarrow")


@dataclass(frozen=True)
class _Clock:
    """When the run began."""

    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started: float = field(default_factory=time.perf_counter)


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


def _save_artifact(folder: RunFolder, findings: Findings) -> None:
    found = findings.subclassifiers if findings.is_routing else None
    units = findings.ensemble.units if found is None else found.units
    # Weights for the loss of a member are those of the ensemble.
    has_fallbacks = bool((units == findings.ensemble.units).all())
    save_artifact(
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
