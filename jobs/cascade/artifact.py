"""`ensemble cascade --save`: the artifact of a cascade, which answers as its report has judged it."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ensemble.artifact.about import About, Figure
from ensemble.artifact.from_table import cascade_answers, golden_from_table
from ensemble.artifact.write import save as save_artifact
from ensemble.cascade.fit import Cascade
from ensemble.cascade.steps import Steps, with_lead
from ensemble.evaluation.calibration import at_temperature, calibrate
from ensemble.evaluation.conformal import JudgedSets, fit_sets, judge_sets
from ensemble.evaluation.metrics import nll
from ensemble.images.open import open_source
from ensemble.members.member import Member
from ensemble.outranking.weighting import Weighting
from ensemble.report.documents.cascade import CascadeReport
from jobs.about import data_of, origins
from jobs.cascade.weights import RunWeights
from jobs.stored_runs.layout import ARTIFACT
from jobs.stored_runs.members import load_members
from jobs.stored_runs.publish import publish_artifact


@dataclass(frozen=True)
class _Parts:
    """What answers: the members with a weight and those of the steps."""

    members: tuple[Member, ...]
    weighting: Weighting
    steps: Steps
    lead: Member | None


def save_cascade(
    weights: RunWeights, cascade: Cascade, report: CascadeReport, folder: str
) -> tuple[str, JudgedSets | None]:
    """Write the artifact of a cascade into a folder of its run.

    Args:
        weights: The run and the weights of its members.
        cascade: The cascade, whose order is over the run's members.
        report: The report of the cascade.
        folder: The folder, relative to the run's.

    Returns:
        The place of the artifact, and its conformal sets, judged on the test images; None where no sets are
        wanted, or so few search images cannot promise the coverage.

    Raises:
        ConfigError: The weights of a member are not on this machine, or the predictions were imported.
    """
    run, parts = weights.run, _load_parts(weights, cascade)
    temperature, sets, loss = _judge(weights, parts)
    golden = golden_from_table(
        run.table,
        parts.members,
        parts.weighting,
        None,
        temperature,
        run.splits.test,
        open_source(run.config.image_source).decode,
        parts.steps,
        parts.lead,
    )
    about = About(
        name=f"{run.name}-cascade",
        images=len(run.splits.test),
        data=data_of(run.config),
        figures=_figures(report, loss),
        origins=origins(run.config.members),
        costs={
            step.member: {unit: costs[step.member] for unit, costs in run.costs.items()}
            for step in report.steps
        },
        golden=golden,
    )
    key = f"{folder}/{ARTIFACT}"
    with tempfile.TemporaryDirectory() as temporary:
        local = Path(run.files.url) / key if not run.files.is_remote else Path(temporary) / ARTIFACT
        save_artifact(
            local,
            parts.members,
            parts.weighting,
            run.splits.test.classes,
            report.search,
            temperature=temperature,
            about=about,
            cascade=parts.steps,
            lead=parts.lead,
            conformal=sets.sets if sets else None,
        )
        if run.files.is_remote:
            publish_artifact(run.files, key, local)
    return f"{run.files.url}/{key}", sets


def _load_parts(weights: RunWeights, cascade: Cascade) -> _Parts:
    names, ensemble = weights.names, weights.ensemble
    voters = [name for name in names if name in ensemble.selected]
    order = [names[member] for member in cascade.order]
    networks = load_members(weights.run, order, dict(weights.temperatures))
    lead = next((network for network in networks if network.name not in voters), None)
    weighting = ensemble.weighting
    names_of_steps = with_lead(voters, lead.name if lead else None)
    return _Parts(
        tuple(network for network in networks if network.name in voters),
        replace(weighting, units=weighting.units[weighting.units > 0]),
        Steps(
            tuple(names_of_steps.index(name) for name in order), cascade.signal, cascade.thresholds
        ),
        lead,
    )


def _judge(weights: RunWeights, parts: _Parts) -> tuple[float, JudgedSets | None, float]:
    """Fit a temperature and conformal sets on the search images, and judge them on the test images.

    Returns:
        The temperature, the sets, and the mean negative log-likelihood of the test labels, in nats.
    """
    run = weights.run
    search, test = run.splits.search, run.splits.test
    on_search, on_test = (
        cascade_answers(
            run.table, parts.members, parts.weighting, parts.steps, parts.lead, images
        ).probabilities
        for images in (search, test)
    )
    with np.errstate(divide="ignore"):
        temperature = calibrate(np.log(on_search), search.labels, run.config.seed).value
    on_test = at_temperature(on_test, temperature)
    sets = fit_sets(at_temperature(on_search, temperature), search.labels, weights.coverage)
    judgement = judge_sets(sets, [(on_test, test.labels)]) if sets else None
    return temperature, judgement, nll(on_test, test.labels)


def _figures(report: CascadeReport, cascade_nll: float) -> tuple[Figure, ...]:
    n, errors = report.test.num_images, report.errors
    voters = sum(step.weight > 0 for step in report.steps)

    def figure(label: str, members: int, key: str, loss: float | None) -> Figure:
        counts = {report.k: round(errors[key] * n)}
        return Figure(label, members, counts, loss, None, is_answer=key == "cascade")

    return (
        figure("the cascade", len(report.steps), "cascade", cascade_nll),
        figure("the whole ensemble", voters, "ensemble", None),
        figure(f"the best member, {report.best_member}", 1, "best", None),
    )
