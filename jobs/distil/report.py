"""The report of a distillation: the networks beside the ensemble, on the same test images."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from ensemble.evaluation.outcome import Outcome, evaluate_weightings
from ensemble.evaluation.reading import ColumnAtTemperature
from ensemble.images.index import ImageIndex
from ensemble.report.documents.distil import DistilReport, DistilRow, RowKey
from ensemble.report.documents.study import BaseDifference, SeedMean
from ensemble.statistics import mean_sd
from ensemble.training.stored_views import ViewPlan
from ensemble.training.task import TrainTask
from jobs.distil.settings import left_out
from jobs.distil.students import StudentRow, Students
from jobs.distil.teacher import Teacher
from jobs.stored_runs.finished import FinishedRun, evaluate_members
from jobs.study.compare import against_base

_WAYS = {
    "distilled": "soft labels of {views} views",
    "fixed": "soft labels of the unchanged image",
    "labels": "labels alone",
}


def build_report(
    run: FinishedRun,
    teacher: Teacher,
    students: Students,
    into: str,
    task: TrainTask,
    plan: ViewPlan,
) -> DistilReport:
    """Judge the ensemble, the best member and the networks on the images that all of them predicted.

    Args:
        run: The run whose ensemble was learned from.
        teacher: The ensemble.
        students: The networks.
        into: Where the network's recipe comes from, as it was typed.
        task: The training on labels.
        plan: The views.
    """
    ours, theirs = run.splits.test, students.splits.test
    test = ours.take(np.flatnonzero(np.isin(ours.image_ids, theirs.image_ids)))
    judge = _Judge(run, teacher, test, np.isin(theirs.image_ids, test.image_ids))
    lines = [judge.of_ensemble(), judge.of_best_member()]
    ways = {key: _WAYS[key].format(views=plan.count) for key in students.rows}
    for key, row in students.rows.items():
        name = f"{task.architecture}, {ways[key]}"
        lines.append(judge.of_networks(key, name, row, students.rows.get("labels")))
    return DistilReport(
        run=run.name,
        into=into,
        architecture=task.architecture,
        k=run.config.search.k,
        views=plan.count,
        train_images=len(plan.images),
        test_images=len(test),
        left_out=left_out(task.recipe),
        resamples=run.config.report.resamples,
        rows=tuple(lines),
        curves=tuple(
            row.curve.model_copy(update={"name": ways[key]})
            for key, row in students.rows.items()
            if row.curve is not None
        ),
    )


class _Judge:
    """Judges predictors on some test images, beside the ensemble.

    Args:
        run: The run whose ensemble was learned from.
        teacher: The ensemble.
        test: The images.
        is_kept: Which of the images that the networks predicted are among them.
    """

    def __init__(
        self,
        run: FinishedRun,
        teacher: Teacher,
        test: ImageIndex,
        is_kept: Bool[np.ndarray, " image"],
    ) -> None:
        self._run, self._is_kept, self._k = run, is_kept, run.config.search.k
        self._costs = run.costs
        self._names = [member.name for member in teacher.artifact.members]
        self._best = min(
            evaluate_members(run, run.splits.search, {}).items(),
            key=lambda named: named[1].errors(self._k),
        )[0]
        self._ensemble = _judge_ensemble(run, teacher, test)
        self._member = evaluate_members(run, test, {})[self._best]

    def of_ensemble(self) -> DistilRow:
        """Make the row of the ensemble, without sub-classifiers, which is what was learned from."""
        title = f"the ensemble of {len(self._names)} members"
        return self._row("ensemble", title, [self._ensemble], self._names)

    def of_best_member(self) -> DistilRow:
        """Make the row of the member with the fewest errors on the search images."""
        return self._row("best", f"the best member, {self._best}", [self._member], [self._best])

    def of_networks(
        self, key: RowKey, name: str, row: StudentRow, labels: StudentRow | None
    ) -> DistilRow:
        """Make the row of the networks of one way to train.

        Args:
            key: The way.
            name: What the networks are, in words.
            row: The networks.
            labels: The networks that were trained on labels alone; None where there are none.
        """
        outcomes = [one.take(self._is_kept) for one in row.outcomes]
        line = self._row(key, name, outcomes, [])
        against = None
        if labels is not None and labels is not row:
            against = self._against(outcomes, [o.take(self._is_kept) for o in labels.outcomes])
        own = {
            "parameters": row.parameters,
            "seconds": row.costs["seconds"] or None,
            "flops": row.costs["flops"] or None,
        }
        return line.model_copy(update=own | {"against_labels": against})

    def _row(
        self, key: RowKey, name: str, outcomes: Sequence[Outcome], members: Sequence[str]
    ) -> DistilRow:
        error = mean_sd([float(one.is_error(self._k).mean()) for one in outcomes])
        is_ensemble = key == "ensemble"
        return DistilRow(
            key=key,
            name=name,
            n=len(outcomes),
            error=SeedMean(mean=error.mean, sd=error.sd),
            nll=float(np.mean([one.nll for one in outcomes])),
            agreement=float(np.mean([one.answers == self._ensemble.answers for one in outcomes])),
            parameters=int(self._cost("parameters", members) or 0),
            seconds=self._cost("seconds", members),
            flops=self._cost("flops", members),
            against_ensemble=None
            if is_ensemble
            else self._against(outcomes, [self._ensemble] * len(outcomes)),
        )

    def _against(self, ours: Sequence[Outcome], others: Sequence[Outcome]) -> BaseDifference:
        wrong, base = (
            np.stack([one.is_error(self._k) for one in outcomes]) for outcomes in (ours, others)
        )
        resamples, seed = self._run.config.report.resamples, self._run.config.seed
        return against_base([wrong], base, resamples, seed)[0]

    def _cost(self, unit: str, members: Sequence[str]) -> float | None:
        """Add up what members cost an image; None where that was not measured."""
        costs = self._costs.get(unit)
        return sum(costs[name] for name in members) if costs and members else None


def _judge_ensemble(run: FinishedRun, teacher: Teacher, test: ImageIndex) -> Outcome:
    """Judge the weighted mean of the members, at the temperatures of the artifact."""
    artifact = teacher.artifact
    columns = {column.member: column for column in run.columns}
    at = [
        ColumnAtTemperature(member.name, columns[member.name].key, member.temperature)
        for member in artifact.members
    ]
    weightings, temperatures = {"ensemble": artifact.weighting}, {"ensemble": artifact.temperature}
    return evaluate_weightings(run.table, at, test, weightings, temperatures)["ensemble"]
