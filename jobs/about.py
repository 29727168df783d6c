"""What an artifact tells of itself: origins, licences and costs of members, and figures of a report."""

import os
import platform
from collections.abc import Iterable, Mapping

from ensemble.artifact.about import About, Figure, Origin
from ensemble.artifact.golden import Golden
from ensemble.members.settings import MemberConfig
from ensemble.pretrained.licence import describe_source, licence_of
from ensemble.report.documents import run as run_document
from ensemble.report.documents import search as search_document
from ensemble.report.documents.weights import Difference
from jobs.settings import RunConfig


def about_run(
    config: RunConfig,
    report: run_document.Report,
    costs: Mapping[str, Mapping[str, float]],
    golden: Golden | None,
) -> About:
    """Tell of the artifact of a run.

    Args:
        config: The run's settings.
        report: The run's report.
        costs: What each member costs an image, by the member's name, then unit.
        golden: Golden inputs.
    """
    ks = {1: "top1_errors", report.top_k: "topk_errors"}
    answering = report.answering.key
    return About(
        name=report.name,
        images=report.best.score.n,
        data=data_of(config),
        figures=tuple(
            Figure(
                result.label,
                result.members,
                {k: getattr(result.score, field) for k, field in ks.items()},
                result.score.nll,
                _interval(result.against_best),
                result.key == answering,
            )
            for result in report.results
        ),
        origins=origins(config.members),
        costs=costs,
        machine=machine(report.execution.hosts),
        golden=golden,
    )


def about_search(
    config: RunConfig,
    report: search_document.SearchReport,
    answering: str,
    costs: Mapping[str, Mapping[str, float]],
    golden: Golden | None,
) -> About:
    """Tell of the artifact of a search on a run.

    Args:
        config: The run's settings.
        report: The search's report.
        answering: Key of the predictor that the artifact answers with.
        costs: What each member costs an image, by the member's name, then unit.
        golden: Golden inputs.
    """
    return About(
        name=f"{report.run}-{report.search}",
        images=report.judged_images,
        data=data_of(config),
        figures=tuple(
            Figure(
                result.label,
                result.members,
                {report.k: result.errors},
                result.nll,
                _interval(result.against_best),
                result.key == answering,
            )
            for result in report.results
        ),
        origins=origins(config.members),
        costs=costs,
        golden=golden,
    )


def origins(members: Iterable[MemberConfig]) -> dict[str, Origin]:
    """Tell where each member comes from, by its name in the config."""
    return {member.name: Origin(describe_source(member), licence_of(member)) for member in members}


def machine(hosts: int) -> str:
    """Name the machine in words."""
    return f"{hosts} workers, driver on {platform.machine()} with {os.cpu_count()} cores"


def data_of(config: RunConfig) -> str:
    """Tell where the images of a run come from, in words."""
    source = config.images.source
    path = getattr(source, "path", None)
    first = path[0] if isinstance(path, tuple) else path
    return (
        source.kind if first is None else f"{source.kind} {str(first).rstrip('/').split('/')[-1]}"
    )


def _interval(difference: Difference | None) -> tuple[float, float, float] | None:
    return None if difference is None else (difference.difference, difference.low, difference.high)
