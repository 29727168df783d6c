"""The canary: a network whose classes are moved on by one, which the night's own rule must call regressed."""

import numpy as np

from ensemble.images.index import ImageIndex
from ensemble.images.split import stratified_sample
from ensemble.nightly.outcomes import Outcomes
from ensemble.nightly.paired import compare_errors
from ensemble.nightly.verdict import judge
from ensemble.report.documents.nightly import Canary
from ensemble.table.logit_table import LogitTable
from jobs.nightly.candidate import Candidate, Workers
from jobs.nightly.suite import RowConfig


def try_canary(
    workers: Workers,
    table: LogitTable,
    row: RowConfig,
    candidate: Candidate,
    watch: ImageIndex,
    num_images: int,
    level: float,
    before: Outcomes,
) -> Canary:
    """Predict a few images anew with the member of the greatest weight, and see whether its bad twin is found.

    The same passes show whether the machine still gives the numbers that the table holds.

    The twin is compared with the baseline: tonight's ensemble may be as bad as the twin.

    Args:
        workers: Whoever predicts.
        table: The table, with the member's rows.
        row: The row.
        candidate: The row's candidate.
        watch: Images of every night.
        num_images: How many of them to predict.
        level: Chance of a false alarm that the night may take.
        before: Outcomes of the accepted baseline on the watch set; tonight's where there is none.
    """
    member = max(candidate.deployment.document.members, key=lambda m: m.weight_units).name
    images = stratified_sample(watch, num_images, row.seed)
    run = workers.canary(candidate, member, images)
    rows = table.read(candidate.deployment.columns[member], images.image_ids)
    kinds = {
        commit.device_kind
        for commit in table.commits()
        if commit.column == candidate.deployment.columns[member]
    }
    there, now = rows.argmax(axis=1), run.log_probabilities.argmax(axis=1)
    row_by_id = {image_id: i for i, image_id in enumerate(watch.image_ids.tolist())}
    at = [row_by_id[image_id] for image_id in images.image_ids.tolist()]
    is_error = before.is_error(1)[at]
    is_error_broken = np.roll(run.log_probabilities, 1, axis=1).argmax(axis=1) != images.labels
    evidence = compare_errors(is_error, is_error_broken)
    (judgement,) = judge([evidence], [1 / len(images)], level)
    return Canary(
        member=member,
        images=len(images),
        is_flagged=judgement.verdict == "regressed",
        errors=int(is_error.sum()),
        errors_broken=int(is_error_broken.sum()),
        largest_difference=float(
            np.abs(np.exp(rows) - np.exp(run.log_probabilities)).max(initial=0.0)
        ),
        flips=int((there != now).sum()),
        is_same_device=kinds == {run.device_kind},
        seconds_per_image=run.seconds / len(images),
        forward_passes=run.forward_passes,
    )
