"""Choosing gate, threshold and routing, and which sub-classifiers are used, by cross-validation.

All of it looks at search images that no sub-classifier was trained or stopped on, and is judged on
those folds of them that it was not fitted on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from ensemble.evaluation import metrics
from ensemble.search.crossfit import stratified_folds
from ensemble.subclassifiers.gates import Gate, cluster_masses, fit_logistic, score
from ensemble.subclassifiers.label_clusters import LabelClusters
from ensemble.subclassifiers.route import (
    Routing,
    Subs,
    is_routed,
    is_routed_to,
    may_route,
    rank_scores,
)
from ensemble.subclassifiers.settings import GateKind, RoutingKind

NUM_FOLDS = 5


@dataclass(frozen=True)
class Evidence:
    """Probabilities of base predictor and sub-classifiers for the images that a gate is chosen on.

    Attributes:
        clusters: Label clusters.
        base: Probabilities of the base predictor.
        subs: Probabilities of each sub-classifier, by the index of its label cluster.
        labels: Class index of each image.
        k: An image is an error where its label is not among the k highest classes.
    """

    clusters: LabelClusters
    base: Float[np.ndarray, "image class"]
    subs: Subs
    labels: Int[np.ndarray, "image"]
    k: int = 1

    def take(self, rows: Int[np.ndarray, "row"]) -> "Evidence":
        """Keep some of the images."""
        subs = {number: sub[rows] for number, sub in self.subs.items()}
        return replace(self, base=self.base[rows], subs=subs, labels=self.labels[rows])

    def paper_routing(self) -> Routing:
        """Give the paper's gate and routing to every sub-classifier, with the gate still shut."""
        return Routing(self.clusters, tuple(sorted(self.subs)))

    @property
    def is_base_wrong(self) -> Bool[np.ndarray, "image"]:
        """Whether the base predictor errs on each image."""
        return metrics.ranks(self.base, self.labels) >= self.k

    def is_wrong(
        self, routing: Routing, routed: Bool[np.ndarray, "image"]
    ) -> Bool[np.ndarray, "image"]:
        """Tell for each image whether the answer is wrong when some images are routed."""
        scores = rank_scores(self.base, self.subs, routing, routed)
        return metrics.ranks(scores, self.labels) >= self.k


@dataclass(frozen=True)
class RoutingCurve:
    """Errors at every threshold that makes a difference.

    Attributes:
        thresholds: Thresholds in rising order; the last is infinite, where nothing is routed.
        errors: Top-k errors at each threshold.
        routed: Images that are routed at each threshold.
    """

    thresholds: Float[np.ndarray, "threshold"]
    errors: Int[np.ndarray, "threshold"]
    routed: Int[np.ndarray, "threshold"]

    @property
    def best(self) -> int:
        """Index of the threshold with the fewest errors; of equals, the one that routes least."""
        return int(np.flatnonzero(self.errors == self.errors.min())[-1])

    @property
    def best_threshold(self) -> float:
        """The threshold with the fewest errors."""
        return float(self.thresholds[self.best])


@dataclass(frozen=True)
class Trial:
    """A gate and a routing for one number of label clusters, and how they do on held-out images.

    Attributes:
        routing: Routing fitted on all images; shut where it gains nothing on held-out ones.
        curve: Errors on all images by threshold.
        num_images: Number of all images.
        base_errors: Errors of the base predictor on all images.
        held_out_wrong: Whether each image is an error of gates that were fitted without its fold.
        held_out_routed: Images that these gates routed.
        gains: For each label cluster, the held-out images of its slice that are put right less those
            put wrong. A routed image is in the slice of the likeliest label cluster it is routed to.
        is_affordable: Whether `search.max_cost` leaves room for the sub-classifiers that are routed to.
    """

    routing: Routing
    curve: RoutingCurve
    num_images: int
    base_errors: int
    held_out_wrong: Bool[np.ndarray, "image"]
    held_out_routed: int
    gains: tuple[int, ...]
    is_affordable: bool = True

    @property
    def held_out_errors(self) -> int:
        """Errors of gates that were fitted without the fold of the image."""
        return int(self.held_out_wrong.sum())


def routing_curve(evidence: Evidence, routing: Routing) -> RoutingCurve:
    """Count the errors at every threshold in one pass over the images, in the order of their score."""
    base_wrong = evidence.is_base_wrong
    scores = score(routing.gate, evidence.base, routing.clusters)
    # A broken row has no score: its gate stays shut at every threshold.
    routable = may_route(evidence.base, routing) & ~np.isnan(scores)
    change = evidence.is_wrong(routing, routable).astype(np.int64) - base_wrong
    thresholds, index = np.unique(scores[routable], return_inverse=True)
    # Routing all images with a score >= thresholds[i] adds the changes from i on to the errors.
    change_at = np.bincount(index, weights=change[routable], minlength=len(thresholds)).astype(
        np.int64
    )
    count_at = np.bincount(index, minlength=len(thresholds))
    return RoutingCurve(
        thresholds=np.append(thresholds, np.inf),
        errors=int(base_wrong.sum()) + np.append(np.cumsum(change_at[::-1])[::-1], 0),
        routed=np.append(np.cumsum(count_at[::-1])[::-1], 0),
    )


def fit_paper(evidence: Evidence) -> tuple[Routing, RoutingCurve]:
    """Fit the entropy threshold with the fewest errors, for hard routing to every sub-classifier.

    Source: P2 §IV-1: e is chosen on validation images.
    """
    routing = evidence.paper_routing()
    curve = routing_curve(evidence, routing)
    return replace(routing, threshold=curve.best_threshold), curve


def cross_validate(evidence: Evidence, gate: GateKind, kind: RoutingKind, seed: int) -> Trial:
    """Fit a gate without each fold in turn and judge it there, then fit it on all images.

    A sub-classifier is used only if its slice gains on held-out images.
    """
    num_images = len(evidence.labels)
    base_wrong = evidence.is_base_wrong
    wrong, slices = base_wrong.copy(), np.full(num_images, -1)
    if num_images >= NUM_FOLDS:
        folds = stratified_folds(evidence.labels, NUM_FOLDS, seed)
        for fold in range(NUM_FOLDS):
            routing, _ = _fit(evidence.take(np.flatnonzero(folds != fold)), gate, kind)
            rows = np.flatnonzero(folds == fold)
            part = evidence.take(rows)
            wrong[rows] = part.is_wrong(routing, is_routed(part.base, routing))
            slices[rows] = _slices(part, routing)
    gains = _slice_gains(evidence, base_wrong, wrong, slices)
    used = tuple(number for number, gain in enumerate(gains) if gain > 0)
    routing, curve = _fit_threshold(evidence, gate, kind, used)
    if wrong.sum() >= base_wrong.sum():
        routing = replace(routing, threshold=np.inf)
    return Trial(
        routing=routing,
        curve=curve,
        num_images=num_images,
        base_errors=int(base_wrong.sum()),
        held_out_wrong=wrong,
        held_out_routed=int((slices >= 0).sum()),
        gains=gains,
    )


def best_trial(trials: Sequence[Trial]) -> int:
    """Find the index of the trial with the fewest held-out errors; of equals, that which routes least.

    One that `search.max_cost` leaves no room for comes after all others.
    """

    def cost(index: int) -> tuple[bool, int, int, int, int]:
        trial = trials[index]
        clusters = len(trial.routing.clusters)
        over = not trial.is_affordable
        return over, trial.held_out_errors, trial.held_out_routed, clusters, index

    return min(range(len(trials)), key=cost)


def _fit(evidence: Evidence, gate: GateKind, kind: RoutingKind) -> tuple[Routing, RoutingCurve]:
    """Fit with all sub-classifiers, then again with those whose slice gains."""
    numbers = tuple(sorted(evidence.subs))
    routing, curve = _fit_threshold(evidence, gate, kind, numbers)
    wrong = evidence.is_wrong(routing, is_routed(evidence.base, routing))
    slices = _slices(evidence, routing)
    gains = _slice_gains(evidence, evidence.is_base_wrong, wrong, slices)
    used = tuple(number for number in numbers if gains[number] > 0)
    if used in (numbers, ()):
        return routing, curve
    return _fit_threshold(evidence, gate, kind, used)


def _fit_threshold(
    evidence: Evidence, gate: GateKind, kind: RoutingKind, used: tuple[int, ...]
) -> tuple[Routing, RoutingCurve]:
    routing = Routing(evidence.clusters, used, kind=kind, gate=Gate(gate))
    if gate == "logistic":
        wrong = evidence.is_wrong(routing, may_route(evidence.base, routing))
        logistic = fit_logistic(evidence.base, evidence.clusters, evidence.is_base_wrong, wrong)
        routing = replace(routing, gate=logistic)
    curve = routing_curve(evidence, routing)
    return replace(routing, threshold=curve.best_threshold), curve


def _slices(evidence: Evidence, routing: Routing) -> Int[np.ndarray, "image"]:
    """Find the likeliest label cluster that each image is routed to; -1 for none."""
    routed_to = is_routed_to(evidence.base, routing)
    masses = np.where(routed_to, cluster_masses(evidence.base, evidence.clusters), -1)
    return np.where(routed_to.any(axis=1), masses.argmax(axis=1), -1)


def _slice_gains(
    evidence: Evidence,
    base_wrong: Bool[np.ndarray, "image"],
    wrong: Bool[np.ndarray, "image"],
    slices: Int[np.ndarray, "image"],
) -> tuple[int, ...]:
    gain, routed = base_wrong.astype(np.int64) - wrong, slices >= 0
    gains = np.bincount(slices[routed], weights=gain[routed], minlength=len(evidence.clusters))
    return tuple(int(value) for value in gains)
