"""Gates: how much an image should go to a sub-classifier, told from the base's probabilities alone.

A gate gives each image a score; from a threshold on it is routed. It never asks a sub-classifier, so
that images that need none cost none.

Source: P2 §III-2 for the entropy. The others are ours.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from ensemble.subclassifiers.label_clusters import LabelClusters
from ensemble.subclassifiers.settings import GateKind


@dataclass(frozen=True)
class Gate:
    """A kind of gate, fitted where it has something to fit.

    Attributes:
        kind: `entropy` in nats; `normalised_entropy`, that inside the likeliest label cluster over its
            largest value; `margin`, 1 less the lead of the first class; `logistic`, the log of the
            odds that the sub-classifier is right rather than the base.
        coefficients: Of the logistic gate: one for each column of `features`, then the constant.
    """

    kind: GateKind = "entropy"
    coefficients: tuple[float, ...] = ()


def entropy(probabilities: Float[np.ndarray, "image class"]) -> Float[np.ndarray, "image"]:
    """Entropy of each row, in nats."""
    terms = np.zeros_like(probabilities)
    np.log(probabilities, out=terms, where=probabilities > 0)
    return -(probabilities * terms).sum(axis=1)


def cluster_masses(
    probabilities: Float[np.ndarray, "image class"], clusters: LabelClusters
) -> Float[np.ndarray, "image cluster"]:
    """Probability of each label cluster."""
    return np.stack([probabilities[:, np.array(group)].sum(axis=1) for group in clusters], axis=1)


def choose_cluster(
    probabilities: Float[np.ndarray, "image class"], clusters: LabelClusters
) -> Int[np.ndarray, "image"]:
    """Index of the label cluster with the largest mass; of equals, the first."""
    return cluster_masses(probabilities, clusters).argmax(axis=1)


def entropy_inside(
    probabilities: Float[np.ndarray, "image class"], clusters: LabelClusters
) -> Float[np.ndarray, "image"]:
    """Entropy of p(class | likeliest label cluster), over its largest value; 0 for a single class.

    Entropy over log C would open the same gate as entropy. This leaves out the doubt between label
    clusters, which no sub-classifier can settle, and compares label clusters of different sizes.
    """
    out = np.full(len(probabilities), np.nan)
    chosen = choose_cluster(probabilities, clusters)
    for number, group in enumerate(clusters):
        rows = np.flatnonzero(chosen == number)
        inside = probabilities[np.ix_(rows, np.array(group))]
        total = inside.sum(axis=1, keepdims=True)
        inside = inside / np.where(total == 0, 1, total)
        out[rows] = entropy(inside) / np.log(max(len(group), 2))
    return out


def margin(probabilities: Float[np.ndarray, "image class"]) -> Float[np.ndarray, "image"]:
    """1 less the difference between the first and the second class."""
    if not len(probabilities):
        return np.empty(0)
    two = np.partition(probabilities, -2, axis=1)[:, -2:]
    return 1 - (two[:, 1] - two[:, 0])


def features(
    probabilities: Float[np.ndarray, "image class"], clusters: LabelClusters
) -> Float[np.ndarray, "image 5"]:
    """What the logistic gate looks at."""
    masses = np.sort(cluster_masses(probabilities, clusters), axis=1)
    return np.stack(
        [
            entropy(probabilities),
            entropy_inside(probabilities, clusters),
            margin(probabilities),
            masses[:, -1],
            masses[:, -2] if len(clusters) > 1 else np.zeros(len(masses)),
        ],
        axis=1,
    )


def score(
    gate: Gate, probabilities: Float[np.ndarray, "image class"], clusters: LabelClusters
) -> Float[np.ndarray, "image"]:
    """Score of each image; NaN where the base is broken, so that no threshold is reached."""
    if gate.kind == "entropy":
        return entropy(probabilities)
    if gate.kind == "normalised_entropy":
        return entropy_inside(probabilities, clusters)
    if gate.kind == "margin":
        return margin(probabilities)
    *slopes, constant = gate.coefficients
    # Not a matrix product: its rounding would depend on how many images are asked about together.
    columns = features(probabilities, clusters).T
    return constant + sum(
        (slope * column for slope, column in zip(slopes, columns, strict=True)),
        start=np.zeros(len(probabilities)),
    )


def fit_logistic(
    probabilities: Float[np.ndarray, "image class"],
    clusters: LabelClusters,
    base_wrong: Bool[np.ndarray, "image"],
    routed_wrong: Bool[np.ndarray, "image"],
) -> Gate:
    """Learn on the images that routing changes to tell those it puts right.

    Where there is only one kind of them, or none, every image scores 0: the gate is open or shut.
    """
    rows = features(probabilities, clusters)
    changed = (base_wrong != routed_wrong) & np.isfinite(rows).all(axis=1)
    is_better = base_wrong[changed]
    if len(np.unique(is_better)) < 2:
        return Gate("logistic", (0.0,) * (rows.shape[1] + 1))
    from sklearn.linear_model import LogisticRegression  # seconds of import

    mean, scale = rows[changed].mean(axis=0), rows[changed].std(axis=0)
    scale = np.where(scale > 0, scale, 1)
    fitted = LogisticRegression(max_iter=1000).fit((rows[changed] - mean) / scale, is_better)
    slopes = fitted.coef_[0] / scale
    constant = fitted.intercept_[0] - (slopes * mean).sum()
    return Gate("logistic", (*map(float, slopes), float(constant)))
