"""`ensemble cascade --save`: the artifact of a cascade, which answers as its report has judged it."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ensemble.artifact.about import About, Figure
from ensemble.artifact.from_table import cascade_answers, golden_from_table
from ensemble.artifact.write import save as save_artifact
from ensemble.cascade.fit import Cascade
from ensemble.cascade.steps import Steps
from ensemble.evaluation.calibration import Temperature, at_temperature, calibrate
from ensemble.evaluation.conformal import JudgedSets, can_promise, fit_conformal, judge_sets
from ensemble.evaluation.metrics import nll
from ensemble.images.open import open_source
from ensemble.report.documents.cascade import CascadeReport
from ensemble.search.result import Ensemble
from jobs.about import data_of, origins
from jobs.stored_runs.finished import FinishedRun
from jobs.stored_runs.layout import ARTIFACT
from jobs.stored_runs.members import load_members
from jobs.stored_runs.publish import publish_artifact


def save_cascade(
    run: FinishedRun,
    temperatures: Mapping[str, Temperature],
    ensemble: Ensemble,
    fitted: Cascade,
    report: CascadeReport,
    folder: str,
    coverage: float | None = None,
) -> tuple[str, JudgedSets | None]:
    """Write the artifact of a cascade into a folder of its run.

    Args:
        run: The run.
        temperatures: Temperatures of members, by name; 1 where a member has none.
        ensemble: The weights.
        fitted: The cascade, whose order is over the run's members.
        report: The report of the cascade.
        folder: The folder, relative to the run's.
        coverage: Least probability that the conformal set of an answer holds the label; None for no sets. There are
            none either where so few images cannot promise it.

    Returns:
        The place of the artifact, and its conformal sets, judged on the test images.

    Raises:
        ConfigError: The weights of a member are not on this machine, or the predictions were imported.
    """
    names = list(run.families)
    voters = [name for name in names if name in ensemble.selected]
    order = [names[member] for member in fitted.order]
    loaded = load_members(run, order, dict(temperatures))
    members = tuple(member for member in loaded if member.name in voters)
    lead = next((member for member in loaded if member.name not in voters), None)
    weighting = ensemble.weighting
    weighting = replace(weighting, units=weighting.units[weighting.units > 0])
    steps = _steps_over([*voters, *([lead.name] if lead else [])], order, fitted)
    search, test = run.splits.search, run.splits.test
    on_search, on_test = (
        cascade_answers(run.table, members, weighting, steps, lead, images).probabilities
        for images in (search, test)
    )
    with np.errstate(divide="ignore"):
        temperature = calibrate(np.log(on_search), search.labels, run.config.seed).value
    on_search, on_test = (at_temperature(part, temperature) for part in (on_search, on_test))
    judged = None
    if coverage is not None and can_promise(len(search), coverage):
        sets = fit_conformal(on_search, search.labels, coverage)
        judged = judge_sets(sets, [(on_test, test.labels)])
    golden = golden_from_table(
        run.table,
        members,
        weighting,
        None,
        temperature,
        test,
        open_source(run.config.image_source).decode,
        steps,
        lead,
    )
    about = About(
        name=f"{run.name}-cascade",
        images=len(test),
        data=data_of(run.config),
        figures=_figures(report, nll(on_test, test.labels)),
        origins=origins(run.config.members),
        costs={
            name: {unit: by_name[name] for unit, by_name in run.costs.items()} for name in order
        },
        golden=golden,
    )
    key = f"{folder}/{ARTIFACT}"
    with tempfile.TemporaryDirectory() as temporary:
        local = Path(run.files.url) / key if not run.files.is_remote else Path(temporary) / ARTIFACT
        save_artifact(
            local,
            members,
            weighting,
            test.classes,
            report.search,
            temperature=temperature,
            about=about,
            cascade=steps,
            lead=lead,
            conformal=judged.sets if judged else None,
        )
        if run.files.is_remote:
            publish_artifact(run.files, key, local)
    return f"{run.files.url}/{key}", judged


def _steps_over(names: Sequence[str], order: Sequence[str], fitted: Cascade) -> Steps:
    """Give the steps over the members of the artifact, by their names, the lead last."""
    return Steps(tuple(names.index(name) for name in order), fitted.signal, fitted.thresholds)


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
