"""Route: which sub-classifiers answer an image behind the gate, and what the answer then is.

Source: P2 §III-2, §III-3. With p the base's probabilities and H their entropy: where H < e the base
answers; else the label cluster with the largest mass does, through its sub-classifier. Asking the two
likeliest label clusters, or all, is what P2 §V leaves to others.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int

from ensemble.members.member import Member
from ensemble.subclassifiers.gates import Gate, cluster_masses, score
from ensemble.subclassifiers.label_clusters import LabelClusters
from ensemble.subclassifiers.settings import RoutingKind

# For each label cluster that has one: the sub-classifier's probabilities, in the order of its classes.
Subs = Mapping[int, Float[np.ndarray, "image _"]]


@dataclass(frozen=True)
class Routing:
    """A fitted gate, and what lies behind it.

    Attributes:
        clusters: Label clusters; the i-th sub-classifier answers for the i-th.
        used: Label clusters whose sub-classifier may answer; the others keep the base's shares.
        threshold: Score from which on an image is routed; infinite if none is.
        gate: What scores the images.
        kind: Whether the likeliest label cluster answers, the two likeliest, or all.
    """

    clusters: LabelClusters
    used: tuple[int, ...]
    threshold: float = float("inf")
    gate: Gate = field(default_factory=Gate)
    kind: RoutingKind = "hard"

    @property
    def is_open(self) -> bool:
        """Whether there is an image that it could route."""
        return bool(self.used) and bool(np.isfinite(self.threshold))


def front(
    probabilities: Float[np.ndarray, "image class"], routing: Routing
) -> Bool[np.ndarray, "image cluster"]:
    """The label clusters that a routed image is answered from; of equals the first ones."""
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
    """Whether a sub-classifier that is used could answer the image, if the gate opened."""
    return np.asarray(front(probabilities, routing)[:, list(routing.used)].any(axis=1))


def is_routed(
    probabilities: Float[np.ndarray, "image class"], routing: Routing
) -> Bool[np.ndarray, "image"]:
    """Whether the gate opens for the image, and there is somebody behind it."""
    opens = score(routing.gate, probabilities, routing.clusters) >= routing.threshold
    return opens & may_route(probabilities, routing)


def is_routed_to(
    probabilities: Float[np.ndarray, "image class"], routing: Routing
) -> Bool[np.ndarray, "image cluster"]:
    """Which sub-classifiers an image must be shown to; none for an image that is not routed."""
    is_used = np.isin(np.arange(len(routing.clusters)), routing.used)
    return front(probabilities, routing) & is_used & is_routed(probabilities, routing)[:, None]


def answer(
    probabilities: Float[np.ndarray, "image class"],
    subs: Subs,
    routing: Routing,
    routed: Bool[np.ndarray, "image"],
) -> Float[np.ndarray, "image class"]:
    """Probabilities after routing: a label cluster keeps its mass, shared out anew.

    p'(y) = p(cluster) p_sub(y | cluster) in the label clusters that answer. The paper answers with the
    sub-classifier's first class; `rank_scores` does so, and probabilities must go on summing to 1.

    Args:
        probabilities: The base's.
        subs: Of the label clusters that are used, at least; only rows that are asked are looked at.
        routing: What lies behind the gate.
        routed: Which images the gate lets through.
    """
    out = probabilities.copy()
    asked = front(probabilities, routing) & routed[:, None]
    for number in routing.used:
        rows = np.flatnonzero(asked[:, number])
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
    """Scores whose order is the routed answer: classes of the label clusters in front come first.

    Source: P2 §III-3 for hard routing. Classes outside follow in the base's order, for top-k.
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
    """A gate, the sub-classifiers behind it, and the weights of what answers first.

    Attributes:
        routing: Label clusters, gate and threshold.
        subclassifiers: One member for each label cluster that has one, by the label cluster's index.
        units: Weights of the pool whose average the gate looks at.
    """

    routing: Routing
    subclassifiers: Mapping[int, Member]
    units: Int[np.ndarray, "member"]
