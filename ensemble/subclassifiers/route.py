"""Gate and route: which images a sub-classifier answers, and what the answer then is.

Source: P2 §III-2, §III-3. With p the base's probabilities and H their entropy: where H < e the base
answers; else the label cluster with the largest mass does, through its sub-classifier.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from ensemble import metrics
from ensemble.subclassifiers.label_clusters import LabelClusters


@dataclass(frozen=True)
class Routing:
    """A fitted gate.

    Attributes:
        clusters: Label clusters; the i-th sub-classifier answers for the i-th.
        threshold: Entropy in nats from which on an image is routed; infinite if none is.
    """

    clusters: LabelClusters
    threshold: float


@dataclass(frozen=True)
class RoutingCurve:
    """Errors on the search split at every threshold that makes a difference.

    Attributes:
        thresholds: Rising; the last is infinite (nothing is routed).
        errors: Images whose first answer is wrong.
        routed: Images with at least that entropy.
    """

    thresholds: Float[np.ndarray, "threshold"]
    errors: Int[np.ndarray, "threshold"]
    routed: Int[np.ndarray, "threshold"]

    @property
    def best(self) -> int:
        """Index of the threshold with the fewest errors; of equals, the one that routes least."""
        return int(np.flatnonzero(self.errors == self.errors.min())[-1])


def entropy(probabilities: Float[np.ndarray, "image class"]) -> Float[np.ndarray, "image"]:
    """Entropy of each row, in nats."""
    terms = np.zeros_like(probabilities)
    np.log(probabilities, out=terms, where=probabilities > 0)
    return -(probabilities * terms).sum(axis=1)


def choose_cluster(
    probabilities: Float[np.ndarray, "image class"], clusters: LabelClusters
) -> Int[np.ndarray, "image"]:
    """Index of the label cluster with the largest mass; of equals, the first."""
    mass = np.stack([probabilities[:, np.array(group)].sum(axis=1) for group in clusters], axis=1)
    return mass.argmax(axis=1)


def is_routed(
    probabilities: Float[np.ndarray, "image class"], threshold: float
) -> Bool[np.ndarray, "image"]:
    """Whether the gate opens."""
    return entropy(probabilities) >= threshold


def answer(
    probabilities: Float[np.ndarray, "image class"],
    subclassifiers: list[Float[np.ndarray, "image _"]],
    clusters: LabelClusters,
    routed: Bool[np.ndarray, "image"],
) -> Float[np.ndarray, "image class"]:
    """Probabilities after routing: the routed label cluster keeps its mass, shared out anew.

    The paper answers a routed image with the sub-classifier's first class. `rank_scores` does so;
    probabilities must go on summing to 1, so p'(y) = p(cluster) p_sub(y | cluster) inside it.

    Args:
        probabilities: The base's.
        subclassifiers: For each label cluster, probabilities over its classes in their order.
        clusters: Label clusters.
        routed: Which images the gate lets through.
    """
    out = probabilities.copy()
    chosen = choose_cluster(probabilities, clusters)
    for number, group in enumerate(clusters):
        rows = np.flatnonzero(routed & (chosen == number))
        columns = np.ix_(rows, np.array(group))
        mass = probabilities[columns].sum(axis=1, keepdims=True)
        out[columns] = mass * subclassifiers[number][rows]
    return out


def rank_scores(
    probabilities: Float[np.ndarray, "image class"],
    subclassifiers: list[Float[np.ndarray, "image _"]],
    clusters: LabelClusters,
    routed: Bool[np.ndarray, "image"],
) -> Float[np.ndarray, "image class"]:
    """Scores whose order is the routed answer: a routed label cluster's classes before all others.

    Source: P2 §III-3, hard routing. Classes outside follow in the base's order, for top-k.
    """
    out = probabilities.copy()
    chosen = choose_cluster(probabilities, clusters)
    for number, group in enumerate(clusters):
        rows = np.flatnonzero(routed & (chosen == number))
        # Probabilities end at 1, so 2 puts the whole label cluster in front.
        out[np.ix_(rows, np.array(group))] = 2 + subclassifiers[number][rows]
    return out


def routing_curve(
    probabilities: Float[np.ndarray, "image class"],
    subclassifiers: list[Float[np.ndarray, "image _"]],
    clusters: LabelClusters,
    labels: Int[np.ndarray, "image"],
) -> RoutingCurve:
    """Errors at every threshold, from one pass over the images in the order of their entropy."""
    everything = np.ones(len(labels), bool)
    routed_answer = rank_scores(probabilities, subclassifiers, clusters, everything).argmax(axis=1)
    base_wrong = metrics.ranks(probabilities, labels) > 0
    gain = (routed_answer != labels).astype(np.int64) - base_wrong
    uncertainty = entropy(probabilities)
    # A broken row has no entropy: its gate stays shut at every threshold.
    opens = ~np.isnan(uncertainty)
    gain = gain[opens]
    thresholds, index = np.unique(uncertainty[opens], return_inverse=True)
    # Routing all images with entropy >= thresholds[i] changes the errors by the gains from i on.
    gain_at = np.bincount(index, weights=gain, minlength=len(thresholds)).astype(np.int64)
    count_at = np.bincount(index, minlength=len(thresholds))
    base_errors = int(base_wrong.sum())
    return RoutingCurve(
        thresholds=np.append(thresholds, np.inf),
        errors=base_errors + np.append(np.cumsum(gain_at[::-1])[::-1], 0),
        routed=np.append(np.cumsum(count_at[::-1])[::-1], 0),
    )
