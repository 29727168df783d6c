"""Judging everything on the test split, and what the search leaves for worse days."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from ensemble.evaluation.outcome import evaluate
from ensemble.images.index import ImageIndex
from ensemble.members.member import Member
from ensemble.report.build.findings import Findings, frontier_key
from ensemble.search.comparison import predictors
from ensemble.search.fallbacks import find_fallbacks_among_selected
from ensemble.search.frontier import cost_frontier
from ensemble.subclassifiers.answers import calibrate_answers, evaluate_routed
from ensemble.subclassifiers.findings import RoutedTest, Subclassified, SubclassifiersOnTest
from jobs.run.job import Job
from jobs.run.predict import Predictions
from jobs.run.search import Fitted


def judge(job: Job, predictions: Predictions, fitted: Fitted) -> Findings:
    """Evaluate members, ensemble, comparisons and sub-classifiers on images that nothing was fitted on."""
    with job.progress.stage("evaluate"):
        return _judge(job, predictions, fitted)


def _judge(job: Job, predictions: Predictions, fitted: Fitted) -> Findings:
    members, splits, outranking = predictions.members, predictions.splits, predictions.outranking
    ensemble, settings = fitted.ensemble, fitted.settings
    rows = predictors(outranking, settings, ensemble)
    # The best member's outcome is that of the member.
    weightings: dict[str, Int[np.ndarray, " member"]] = {
        row.key: row.ensemble.units for row in rows if row.key != "best"
    }
    frontier = cost_frontier(outranking, settings, [ensemble]) if settings.costs else ()
    weightings |= {frontier_key(i): point.ensemble.units for i, point in enumerate(frontier)}
    images, units, routing = splits.search, ensemble.units, None
    subclassifiers = fitted.subclassifiers
    if subclassifiers is not None and subclassifiers.is_used:
        images, units = subclassifiers.choosing, subclassifiers.units
        routing = subclassifiers.fitted()
    return Findings(
        splits=splits,
        bad=predictions.excluded,
        members=members,
        ensemble=ensemble,
        outranking=outranking,
        predictors=rows,
        search=evaluate(job.table, members, splits.search, {}),
        test=evaluate(job.table, members, splits.test, weightings),
        calibration=calibrate_answers(
            job.table, members, images, splits.test, (units, routing), job.config.seed
        ),
        subclassifiers=subclassifiers,
        routed=judge_on_test(job, members, splits.test, subclassifiers) if subclassifiers else None,
        subclassifier_settings=job.config.subclassifiers,
        settings=settings,
        cost_unit=("as given" if job.config.search.costs else settings.cost) if frontier else None,
        frontier=frontier,
        # They are weights of the ensemble: what answers with other weights has no use for them.
        fallbacks=find_fallbacks_among_selected(outranking, ensemble, settings)
        if (units == ensemble.units).all()
        else (),
    )


def judge_on_test(
    job: Job, members: Sequence[Member], test: ImageIndex, subclassified: Subclassified
) -> SubclassifiersOnTest:
    """Judge base, paper's routing and ours on images that nothing of them was chosen on."""
    units = subclassified.units
    first = evaluate(job.table, members, test, {"first": units})["first"]
    paper, chosen = (
        RoutedTest(routing, *evaluate_routed(job.table, members, test, routing))
        for routing in (subclassified.fitted_as_paper(), subclassified.fitted())
    )
    control = None
    if subclassified.control is not None:
        trained_on = [
            subclassified.control if member == subclassified.member else member
            for member in members
        ]
        control = evaluate(job.table, trained_on, test, {"control": units})["control"]
    return SubclassifiersOnTest(first, paper, chosen, control)
