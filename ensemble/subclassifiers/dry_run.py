"""The dry run: what sub-classifiers could gain at the most, counted before any is trained.

It reads the predictions of the base alone. What sub-classifiers will gain cannot be told from these,
but a bound can: only an error whose label lies in the label cluster that the image is routed to can be
put right.
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
        classes: Class indices of the label cluster.
        sent: Images whose likeliest label cluster this is.
        misrouted: Images of these whose label is not in the label cluster.
        errors: Images of these on which the base errs.
        fixable: Errors whose label is in the label cluster.
        train_images: Images to fine-tune on.
        seconds: Estimated time of fine-tuning on one host; None where no forward pass was measured.
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
        """Whether there are so many fixable errors that a gain could be told from chance."""
        return self.fixable >= LEAST_FIXABLE


@dataclass(frozen=True)
class LabelPlan:
    """One number of label clusters.

    Attributes:
        num_clusters: Number of label clusters as set; bounds on their size can change it.
        clusters: The label clusters, the largest first.
        images: Number of images that the base was judged on.
        errors: Errors of the base.
        misrouted_hard: Images whose label is not in the likeliest label cluster.
        misrouted_top2: Images whose label is in neither of the two likeliest label clusters.
        fixable_hard: Errors that hard routing could put right.
        fixable_top2: Errors that routing to two label clusters could put right.
        num_classes: Number of all classes.
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
        """Fixable errors, each weighted by the share of classes that its sub-classifier leaves out.

        This ranks plans and forecasts nothing. With one label cluster of all classes everything is fixable and the
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
        num_clusters: Number of label clusters as set.
        clusters: Label clusters.
        base: Probabilities of the base.
        labels: Class index of each image.
        train_labels: Class index of each training image.
        epochs: Epochs of fine-tuning.
        forward_seconds: Time of the base's forward pass for one image; None where not measured.
    """
    wrong = metrics.ranks(base, labels) > 0
    truth = labels_of(clusters)[labels]
    numbers = tuple(range(len(clusters)))
    likeliest = front(base, Routing(clusters, numbers)).argmax(axis=1)
    two = front(base, Routing(clusters, numbers, kind="top2"))
    in_two = np.take_along_axis(two, truth[:, None], axis=1)[:, 0]
    is_right = likeliest == truth

    def plan(number: int) -> ClusterPlan:
        sent = likeliest == number
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
        clusters=tuple(plan(number) for number in numbers),
        images=len(labels),
        errors=int(wrong.sum()),
        misrouted_hard=int((~is_right).sum()),
        misrouted_top2=int((~in_two).sum()),
        fixable_hard=int((wrong & is_right).sum()),
        fixable_top2=int((wrong & in_two).sum()),
        num_classes=base.shape[1],
    )


def best_plan(plans: tuple[LabelPlan, ...]) -> LabelPlan | None:
    """Choose the plan with the greatest promise, of equals the first; None where none has any."""
    best = max(plans, key=lambda plan: plan.promise)
    return best if best.promise > 0 else None
