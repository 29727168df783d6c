"""Judging everything on the test split, and what the search leaves for worse days."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ensemble.evaluation.outcome import evaluate
from ensemble.images.index import ImageIndex
from ensemble.members.member import Member
from ensemble.report.build.findings import Findings, frontier_key
from ensemble.subclassifiers.answers import calibrate_answers, evaluate_routed
from ensemble.subclassifiers.findings import RoutedTest, Subclassified, SubclassifiersOnTest
from jobs.run.all_outputs import judge_among_all_outputs
from jobs.run.job import Job
from jobs.run.predict import Predictions
from jobs.run.search import Fitted
from jobs.stored_runs.columns import measured_costs


def judge(job: Job, predictions: Predictions, fitted: Fitted) -> Findings:
    """Evaluate members, ensemble, comparisons and sub-classifiers on images that nothing was fitted on."""
    among_all = judge_among_all_outputs(job, predictions.splits.test)
    with job.progress.stage("evaluate"):
        findings = _judge(job, predictions, fitted)
    num_classes = len(predictions.splits.test.classes)
    both = [one.describe(name, num_classes, findings.ensemble.k) for name, one in among_all.items()]
    return replace(findings, among_all=among_all, notes=(*findings.notes, *both))


def _judge(job: Job, predictions: Predictions, fitted: Fitted) -> Findings:
    members, splits, search = predictions.members, predictions.splits, fitted.search
    # The best member's outcome is that of the member.
    weightings = {
        str(row.key): row.ensemble.weighting for row in search.predictors if row.key != "best"
    }
    weightings |= {
        frontier_key(i): point.ensemble.weighting for i, point in enumerate(search.frontier)
    }
    images, weighting, routing = splits.search, search.answer.ensemble.weighting, None
    subclassifiers = fitted.subclassifiers
    if subclassifiers is not None and subclassifiers.is_used:
        images, weighting = subclassifiers.choosing, subclassifiers.weighting
        routing = subclassifiers.fitted()
    return Findings(
        splits=splits,
        bad=predictions.excluded,
        members=members,
        outcome=search,
        outranking=predictions.outranking,
        notes=fitted.notes,
        search=fitted.on_search,
        test=evaluate(job.table, members, splits.test, weightings),
        calibration=calibrate_answers(
            job.table,
            members,
            images,
            splits.test,
            (weighting, routing),
            job.config.seed,
            job.config.report.coverage,
        ),
        subclassifiers=subclassifiers,
        routed=judge_on_test(job, members, splits.test, subclassifiers) if subclassifiers else None,
        subclassifier_settings=job.config.subclassifiers,
        cost_unit=("as given" if job.config.search.costs else search.settings.cost)
        if search.frontier
        else None,
        costs=_costs(job, members, subclassifiers, fitted.depths),
    )


def _costs(
    job: Job,
    members: Sequence[Member],
    subclassifiers: Subclassified | None,
    depths: Mapping[str, int | None],
) -> dict[str, dict[str, float]]:
    """Give what every network cost an image, by column and unit; 0 where that is not known."""
    networks = {member.column: (member, member.name) for member in members}
    for clustered in subclassifiers.tried if subclassifiers else ():
        for sub in clustered.subclassifiers.values():
            # A sub-classifier is as deep as the member that it was fine-tuned from.
            networks[sub.column] = (sub, subclassifiers.member.name if subclassifiers else "")
    commits = tuple(job.table.commits())
    return {
        column: {
            **measured_costs(commits, column),
            "parameters": float(member.parameters),
            "depth": float(depths.get(name) or 0),
        }
        for column, (member, name) in networks.items()
    }


def judge_on_test(
    job: Job, members: Sequence[Member], test: ImageIndex, subclassified: Subclassified
) -> SubclassifiersOnTest:
    """Judge base, paper's routing and ours on images that nothing of them was chosen on."""
    weighting = subclassified.weighting
    first = evaluate(job.table, members, test, {"first": weighting})["first"]
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
        control = evaluate(job.table, trained_on, test, {"control": weighting})["control"]
    return SubclassifiersOnTest(first, paper, chosen, control)
