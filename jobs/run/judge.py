"""jobs / run / judge: say here what this file is responsible for."""

from collections.abc import Sequence

import numpy as np

from ensemble.evaluation.outcome import evaluate
from ensemble.images.shard import BadImage
from ensemble.members.member import Member
from ensemble.outranking.fixed_point import WEIGHT_UNITS
from ensemble.outranking.table import OutrankingTable
from ensemble.report.build.run import Findings, frontier_key
from ensemble.search.fit import fit
from ensemble.search.frontier import cost_frontier
from ensemble.search.result import Ensemble
from ensemble.search.settings import SearchConfig
from ensemble.subclassifiers.answers import calibrate_answers, evaluate_routed
from ensemble.subclassifiers.findings import (
    RoutedTest,
    Subclassified,
    SubclassifiersOnTest,
)
from jobs.run.job import Job, search_config


def judge_on_test(
    job: Job, members: Sequence[Member], found: Subclassified
) -> SubclassifiersOnTest:
    """Judge base, paper's routing and ours on images that nothing of them was chosen on."""
    test = job.splits.test
    first = evaluate(job.table, members, test, {"first": found.units})["first"]
    paper, chosen = (
        RoutedTest(fitted, *evaluate_routed(job.table, members, test, fitted))
        for fitted in (found.fitted_as_paper(), found.fitted())
    )
    control = None
    if found.control is not None:
        with_it = [found.control if member == found.member else member for member in members]
        control = evaluate(job.table, with_it, test, {"control": found.units})["control"]
    return SubclassifiersOnTest(first, paper, chosen, control)


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
