"""Routing: which sub-classifiers answer an image that the gate lets through, and with what.

Source: P2 §III-2, §III-3. With p the probabilities of the base predictor and H their entropy: where
H < e the base predictor answers, elsewhere the sub-classifier of the label cluster with the largest
mass. Routing to the two likeliest label clusters, or to all, is not in P2, whose §V names it as work
to be done.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

from ensemble.members.member import Member
from ensemble.outranking.weighting import Weighting
from ensemble.subclassifiers.gates import Gate, cluster_masses, score
from ensemble.subclassifiers.label_clusters import LabelClusters
from ensemble.subclassifiers.settings import RoutingKind

# By the index of a label cluster: probabilities of its sub-classifier, in the order of its classes.
Subs = Mapping[int, Float[np.ndarray, "image _"]]


@dataclass(frozen=True)
class Routing:
    """A fitted gate, and what lies behind it.

    Attributes:
        clusters: Label clusters; the i-th sub-classifier answers for the i-th.
        used: Indices of the label clusters whose sub-classifier may answer; the others keep the
            probabilities of the base predictor.
        threshold: Least score of an image that is routed; infinite where none is.
        gate: The gate that scores the images.
        kind: Whether images are routed to the likeliest label cluster, to the two likeliest, or to all.
    """

    clusters: LabelClusters
    used: tuple[int, ...]
    threshold: float = float("inf")
    gate: Gate = field(default_factory=Gate)
    kind: RoutingKind = "hard"

    @property
    def is_open(self) -> bool:
        """Whether any image could be routed."""
        return bool(self.used) and bool(np.isfinite(self.threshold))


def front(
    probabilities: Float[np.ndarray, "image class"], routing: Routing
) -> Bool[np.ndarray, "image cluster"]:
    """Tell which label clusters a routed image is answered from; of equals the first ones."""
    masses = cluster_masses(probabilities, routing.clusters)
    if routing.kind == "soft":
        return np.ones(masses.shape, bool)
    count = 1 if routing.kind == "hard" else 2
    order = np.argsort(-masses, axis=1, kind="stable")[:, :count]
    out = np.zeros(masses.shape, bool)
    np.put_along_axis(out, order, True, axis=1)
    return out


def may_route(
    probabilities: Float[np.ndarray, "image class"], routing: Routing
) -> Bool[np.ndarray, "image"]:
    """Tell whether a sub-classifier that is used would answer the image if the gate opened."""
    return np.asarray(front(probabilities, routing)[:, list(routing.used)].any(axis=1))


def is_routed(
    probabilities: Float[np.ndarray, "image class"], routing: Routing
) -> Bool[np.ndarray, "image"]:
    """Tell whether the gate opens for the image and a sub-classifier that is used would answer it."""
    opens = score(routing.gate, probabilities, routing.clusters) >= routing.threshold
    return opens & may_route(probabilities, routing)


def is_routed_to(
    probabilities: Float[np.ndarray, "image class"], routing: Routing
) -> Bool[np.ndarray, "image cluster"]:
    """Tell which sub-classifiers an image is routed to; none where it is not routed."""
    is_used = np.isin(np.arange(len(routing.clusters)), routing.used)
    return front(probabilities, routing) & is_used & is_routed(probabilities, routing)[:, None]


def answer(
    probabilities: Float[np.ndarray, "image class"],
    subs: Subs,
    routing: Routing,
    routed: Bool[np.ndarray, "image"],
) -> Float[np.ndarray, "image class"]:
    """Give the probabilities after routing: a label cluster keeps its mass, divided anew.

    p'(y) = p(cluster) p_sub(y | cluster) in the label clusters that answer. The paper answers with the
    most probable class of the sub-classifier; `rank_scores` does so, while probabilities sum to 1.

    Args:
        probabilities: Probabilities of the base predictor.
        subs: Probabilities of the sub-classifiers that are used, at least; only the rows of images
            that are routed to them are read.
        routing: The routing.
        routed: Whether the gate lets each image through.
    """
    out = probabilities.copy()
    routed_to = front(probabilities, routing) & routed[:, None]
    for number in routing.used:
        rows = np.flatnonzero(routed_to[:, number])
        columns = np.ix_(rows, np.array(routing.clusters[number]))
        mass = probabilities[columns].sum(axis=1, keepdims=True)
        out[columns] = mass * subs[number][rows]
    return out


def rank_scores(
    probabilities: Float[np.ndarray, "image class"],
    subs: Subs,
    routing: Routing,
    routed: Bool[np.ndarray, "image"],
) -> Float[np.ndarray, "image class"]:
    """Give scores in whose order the classes of the label clusters that answer come first.

    Classes outside follow in the order of the base predictor, for top-k.

    Source: P2 §III-3 for hard routing.
    """
    out = answer(probabilities, subs, routing, routed)
    if routing.kind == "soft":
        return out
    ahead = front(probabilities, routing) & routed[:, None]
    for number, group in enumerate(routing.clusters):
        # Probabilities end at 1, so 2 puts the whole label cluster in front.
        out[np.ix_(np.flatnonzero(ahead[:, number]), np.array(group))] += 2
    return out


@dataclass(frozen=True)
class FittedRouting:
    """A routing with its sub-classifiers and the weights of its base predictor.

    Attributes:
        routing: Label clusters, gate and threshold.
        subclassifiers: Sub-classifiers by the index of their label cluster.
        weighting: Weights of the members; their average is the base predictor.
    """

    routing: Routing
    subclassifiers: Mapping[int, Member]
    weighting: Weighting
