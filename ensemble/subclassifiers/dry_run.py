"""The dry run: what sub-classifiers could gain, from the base's predictions alone, before any is trained.

What they will gain nobody knows before. What they cannot gain is known: only an error whose truth
lies in the label cluster that the image is sent to can be put right.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from ensemble.evaluation import metrics
from ensemble.subclassifiers.label_clusters import LabelClusters, labels_of
from ensemble.subclassifiers.route import Routing, front

LEAST_FIXABLE = 6
"""If all of fewer errors were put right and nothing wrong, McNemar's exact test would still give
p > 0.05 (2 x 0.5^5 = 0.06): no such label cluster can be shown to gain."""

BACKWARD_COST = 2.0
"""A backward pass takes about twice the time of a forward pass."""


@dataclass(frozen=True)
class ClusterPlan:
    """One label cluster on the images that the base was judged on.

    Attributes:
        classes: Of the label cluster.
        sent: Images whose likeliest label cluster it is.
        misrouted: Those of them whose truth is not in it.
        errors: Those of them that the base has wrong.
        fixable: Those errors whose truth is in it.
        train_images: To fine-tune on.
        seconds: Estimated, on one host; none where no forward pass was measured.
    """

    classes: tuple[int, ...]
    sent: int
    misrouted: int
    errors: int
    fixable: int
    train_images: int
    seconds: float | None

    @property
    def is_worth_it(self) -> bool:
        """Whether there are enough errors to put right that a gain could be told from chance."""
        return self.fixable >= LEAST_FIXABLE


@dataclass(frozen=True)
class LabelPlan:
    """One number of label clusters.

    Attributes:
        num_clusters: As asked for.
        clusters: The largest first.
        images: Judged.
        errors: Of the base.
        misrouted_hard: Images whose truth is not in the likeliest label cluster.
        misrouted_top2: Images whose truth is in neither of the two likeliest.
        fixable_hard: Errors that hard routing could put right.
        fixable_top2: Errors that routing to two could put right.
        num_classes: In all.
    """

    num_clusters: int
    clusters: tuple[ClusterPlan, ...]
    images: int
    errors: int
    misrouted_hard: int
    misrouted_top2: int
    fixable_hard: int
    fixable_top2: int
    num_classes: int

    @property
    def promise(self) -> float:
        """Fixable errors, each counted by the share of classes that its sub-classifier is freed of.

        A ranking, no forecast. With one label cluster of all classes everything is fixable and the
        sub-classifier is the base again; with one class each it is perfect and nothing is fixable.
        """
        return sum(
            (
                cluster.fixable * (1 - len(cluster.classes) / self.num_classes)
                for cluster in self.clusters
                if cluster.is_worth_it
            ),
            start=0.0,
        )


def plan_label_clusters(
    num_clusters: int,
    clusters: LabelClusters,
    base: Float[np.ndarray, "image class"],
    labels: Int[np.ndarray, "image"],
    train_labels: Int[np.ndarray, "train"],
    epochs: int,
    forward_seconds: float | None,
) -> LabelPlan:
    """Count what label clusters could gain.

    Args:
        num_clusters: As asked for.
        clusters: Label clusters.
        base: Probabilities of the base.
        labels: The truth.
        train_labels: Of the training images.
        epochs: Of fine-tuning.
        forward_seconds: That the base takes for the forward pass of an image.
    """
    wrong = metrics.ranks(base, labels) > 0
    truth = labels_of(clusters)[labels]
    everyone = tuple(range(len(clusters)))
    chosen = front(base, Routing(clusters, everyone)).argmax(axis=1)
    two = front(base, Routing(clusters, everyone, kind="top2"))
    in_two = np.take_along_axis(two, truth[:, None], axis=1)[:, 0]
    is_right = chosen == truth

    def plan(number: int) -> ClusterPlan:
        sent = chosen == number
        train_images = int(np.isin(train_labels, clusters[number]).sum())
        seconds = None
        if forward_seconds is not None:
            seconds = train_images * epochs * forward_seconds * (1 + BACKWARD_COST)
        return ClusterPlan(
            classes=clusters[number],
            sent=int(sent.sum()),
            misrouted=int((sent & ~is_right).sum()),
            errors=int((sent & wrong).sum()),
            fixable=int((sent & wrong & is_right).sum()),
            train_images=train_images,
            seconds=seconds,
        )

    return LabelPlan(
        num_clusters=num_clusters,
        clusters=tuple(plan(number) for number in everyone),
        images=len(labels),
        errors=int(wrong.sum()),
        misrouted_hard=int((~is_right).sum()),
        misrouted_top2=int((~in_two).sum()),
        fixable_hard=int((wrong & is_right).sum()),
        fixable_top2=int((wrong & in_two).sum()),
        num_classes=base.shape[1],
    )


def best_plan(plans: tuple[LabelPlan, ...]) -> LabelPlan | None:
    """The plan that promises most; of equals the first. None where none promises anything."""
    best = max(plans, key=lambda plan: plan.promise)
    return best if best.promise > 0 else None
