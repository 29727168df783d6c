"""Blame without a forward pass: the table holds old and new columns, so each change is undone in turn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from ensemble.images.index import ImageIndex
from ensemble.nightly.deployment import WEIGHTS, Deployment, evaluate
from ensemble.nightly.outcomes import Outcomes
from ensemble.nightly.verdict import figure
from ensemble.table.logit_table import LogitTable


@dataclass(frozen=True)
class Share:
    """What one change did to a figure.

    Attributes:
        part: Name of the member or sub-classifier that changed, or `weights`.
        recovered: How much lower the figure would be with the old part in the place of the new one.
        share: The same as a part of the whole change; parts need not sum to 1, because changes interact.
    """

    part: str
    recovered: float
    share: float


@dataclass(frozen=True)
class ClassChange:
    """What happened to the images of one class, or of one label cluster.

    Attributes:
        label: Index of the class or of the label cluster.
        images: Number of its images.
        newly_wrong: Images that only tonight errs on.
        newly_right: Images that only the baseline errs on.
    """

    label: int
    images: int
    newly_wrong: int
    newly_right: int


def changed_parts(before: Deployment, after: Deployment) -> tuple[str, ...]:
    """List the parts whose column differs, and `weights` where they, a temperature, or the members do."""
    parts = [
        part for part, column in after.columns.items() if before.columns.get(part, column) != column
    ]
    is_other = before.weights_identity != after.weights_identity
    return (*parts, WEIGHTS) if is_other else tuple(parts)


def blame(
    table: LogitTable,
    before: Deployment,
    after: Deployment,
    images: ImageIndex,
    metric: str,
) -> tuple[Share, ...]:
    """Undo each change in turn, and tell what that does to a figure; the greatest share first.

    Args:
        table: A table with the rows of both deployments.
        before: The baseline's deployment.
        after: Tonight's deployment.
        images: The images that both were judged on.
        metric: The figure: topK_error, nll or ece.

    Raises:
        IncompleteTableError: The table lacks rows of the baseline.
    """
    tonight = figure(metric, evaluate(table, after, images))
    whole = tonight - figure(metric, evaluate(table, before, images))
    shares = []
    for part in changed_parts(before, after):
        recovered = tonight - figure(metric, evaluate(table, _undo(before, after, part), images))
        shares.append(Share(part, recovered, recovered / whole if whole else 0.0))
    return tuple(sorted(shares, key=lambda share: -share.recovered))


def changes_by_class(
    before: Outcomes, after: Outcomes, labels: np.ndarray, k: int
) -> tuple[ClassChange, ...]:
    """Count changed errors by class, those with the greatest loss first; classes without a change are left out."""
    return count_by_class(before.is_error(k), after.is_error(k), labels)


def count_by_class(
    was: Bool[np.ndarray, " image"], is_now: Bool[np.ndarray, " image"], labels: np.ndarray
) -> tuple[ClassChange, ...]:
    """Count changed errors by class, from whether the baseline and tonight err on each image."""
    size = int(labels.max(initial=-1)) + 1
    images, wrong, right = (
        np.bincount(labels[chosen], minlength=size)
        for chosen in (np.ones(len(labels), bool), is_now & ~was, was & ~is_now)
    )
    order = sorted(range(size), key=lambda label: (right[label] - wrong[label], label))
    return tuple(
        ClassChange(label, int(images[label]), int(wrong[label]), int(right[label]))
        for label in order
        if wrong[label] or right[label]
    )


def changes_by_cluster(
    changes: Sequence[ClassChange], clusters: Sequence[Sequence[int]], labels: np.ndarray
) -> tuple[ClassChange, ...]:
    """Add up the changes of the classes of each label cluster.

    Args:
        changes: Of every class that has one.
        clusters: Classes of each label cluster.
        labels: Class index of each image.
    """
    return tuple(
        ClassChange(
            label=index,
            images=int(np.isin(labels, cluster).sum()),
            newly_wrong=sum(change.newly_wrong for change in changes if change.label in cluster),
            newly_right=sum(change.newly_right for change in changes if change.label in cluster),
        )
        for index, cluster in enumerate(clusters)
    )


def changed_images(before: Outcomes, after: Outcomes, k: int, most: int = 60) -> Sequence[int]:
    """List rows of images whose error came or went, newly wrong ones first, those answered surest first."""
    was, is_now = before.is_error(k), after.is_error(k)
    sure = -after.confidences
    wrong = sorted(np.flatnonzero(is_now & ~was).tolist(), key=lambda row: float(sure[row]))
    right = sorted(np.flatnonzero(was & ~is_now).tolist(), key=lambda row: float(sure[row]))
    room = max(most - len(right), most // 2)
    return [*wrong[:room], *right[: most - len(wrong[:room])]]


def _undo(before: Deployment, after: Deployment, part: str) -> Deployment:
    if part != WEIGHTS:
        return after.with_column(part, before.columns[part])
    columns: Mapping[str, str] = {
        name: after.columns.get(name, column) for name, column in before.columns.items()
    }
    return Deployment(before.document, columns)
