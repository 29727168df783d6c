"""The rows of a stage: which answers of the networks of a variant are wrong, or why there are none."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool

from ensemble.report.build.curves import read_curves
from ensemble.report.documents.curves import Curve
from ensemble.training.task import TrainTask
from jobs.run.job import Job
from jobs.study.networks import Trained, wrong_answers
from jobs.study.variants import Variant


@dataclass(frozen=True)
class TrainedRow:
    """What the networks of a variant answered.

    Attributes:
        variant: The variant.
        reason: Why it has no answers; None where it has.
        wrong_validation: Whether each seed's network errs on each validation image; empty with a reason.
        wrong_test: The same for the test images.
        seconds: Mean seconds of a training; None with a reason.
        num_trained: Number of networks that were trained.
        curve: Training of the first seed; None where it was not trained.
        average_of: Number of networks of each row that an average is of, whose rows of wrong answers are then of one
            average each; empty for networks.
    """

    variant: Variant
    reason: str | None
    wrong_validation: Bool[np.ndarray, "seed image"]
    wrong_test: Bool[np.ndarray, "seed image"]
    seconds: float | None = None
    num_trained: int = 0
    curve: Curve | None = None
    average_of: dict[str, int] = field(default_factory=dict)


_NOTHING = np.zeros((0, 0), bool)


def without_answers(variant: Variant, reason: str, num_trained: int = 0) -> TrainedRow:
    """Make the row of a variant that has no figures."""
    return TrainedRow(variant, reason, _NOTHING, _NOTHING, num_trained=num_trained)


def judge_row(
    job: Job, trained: Trained, variant: Variant, names: Sequence[str], k: int
) -> TrainedRow:
    """Tell which answers of the networks of a row are wrong, or why it has none.

    Args:
        job: The run.
        trained: All networks of the stage.
        variant: The variant.
        names: Names of its networks, in the order of their seeds.
        k: An answer is wrong where the label is not among the k highest classes.
    """
    there = [trained.networks[name] for name in names if name in trained.networks]
    missing = [trained.reasons[name] for name in names if name not in trained.networks]
    if missing:
        return without_answers(variant, missing[0], len(there))
    curves = read_curves(there[:1])
    return TrainedRow(
        variant,
        None,
        wrong_answers(job.table, there, trained.splits.search, k),
        wrong_answers(job.table, there, trained.splits.test, k),
        float(np.mean([_seconds(trained.tasks[name]) for name in names])),
        len(there),
        curves[0].model_copy(update={"name": variant.name}) if curves else None,
    )


def _seconds(task: TrainTask) -> float:
    """Add up the seconds of the epochs of a training."""
    return float(sum(epoch["seconds"] for epoch in json.loads(task.curve.read_bytes())))
