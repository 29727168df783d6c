"""Rows of a study that average the probabilities of networks of several seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from ensemble.errors import ConfigError, UnknownNameError
from ensemble.evaluation.outcome import evaluate_weightings
from ensemble.images.index import ImageIndex
from ensemble.members.member import Member
from ensemble.outranking.fixed_point import WEIGHT_UNITS
from ensemble.outranking.weighting import Weighting
from ensemble.table.logit_table import LogitTable
from jobs.run.job import Job
from jobs.study.networks import Trained
from jobs.study.rows import TrainedRow, without_answers
from jobs.study.settings import StageConfig, StudyConfig
from jobs.study.variants import Variant

_AVERAGE = "average"


def check_averages(stage: StageConfig, variants: Sequence[Variant], seeds: int) -> None:
    """Refuse averages of rows that are not there, or of more networks than a row has.

    Raises:
        ConfigError: An average cannot be had, or has the name of a row.
    """
    names = [variant.name for variant in variants]
    for name, counts in stage.averages.items():
        if name in names:
            raise ConfigError(
                f"the stage {stage.name!r} has a row named {name!r}; rename the average."
            )
        if not counts:
            raise ConfigError(f"the average {name!r} is of no row; give one, as {{base: 5}}.")
        for row, count in counts.items():
            if row not in names:
                raise UnknownNameError.of(f"row of the stage {stage.name!r}", row, names)
            if count > seeds:
                raise ConfigError(
                    f"the average {name!r} has {count} networks of {row!r}, and seeds is {seeds}; raise seeds."
                )


def count_averages(counts: Mapping[str, int], seeds: int) -> int:
    """Count the averages that share no network."""
    return min(seeds // count for count in counts.values())


def average_row(
    job: Job,
    study: StudyConfig,
    trained: Trained,
    base: Variant,
    name: str,
    counts: Mapping[str, int],
) -> TrainedRow:
    """Judge the averages of one name, each of networks that no other one has.

    Args:
        job: The run of the stage.
        study: The study.
        trained: The networks of the stage.
        base: The base of the stage.
        name: Name of the average.
        counts: Number of networks by the name of their row.
    """
    variant, groups = replace(base, name=name), list[list[Member]]()
    for group in range(count_averages(counts, study.seeds)):
        members = [
            f"{row}-seed{seed}"
            for row, count in counts.items()
            for seed in range(group * count, (group + 1) * count)
        ]
        if missing := [member for member in members if member not in trained.networks]:
            return without_answers(
                variant,
                f"{missing[0]} has no predictions: {trained.reasons.get(missing[0], 'it is not trained.')}",
                len(groups),
            )
        groups.append([trained.networks[member] for member in members])
    return TrainedRow(
        variant,
        None,
        _wrong_averages(job.table, groups, trained.splits.search, study.k),
        _wrong_averages(job.table, groups, trained.splits.test, study.k),
        num_trained=len(groups),
        average_of=dict(counts),
    )


def _wrong_averages(
    table: LogitTable, groups: Sequence[Sequence[Member]], images: ImageIndex, k: int
) -> Bool[np.ndarray, "average image"]:
    wrong = []
    for members in groups:
        weighting = Weighting(np.full(len(members), WEIGHT_UNITS, np.int64))
        outcomes = evaluate_weightings(table, members, images, {_AVERAGE: weighting})
        wrong.append(outcomes[_AVERAGE].is_error(k))
    return np.stack(wrong)
