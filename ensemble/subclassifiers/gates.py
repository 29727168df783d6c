"""Gates: scores of how much an image needs a sub-classifier, from the base predictor alone.

An image is routed if its score reaches a threshold. No sub-classifier is run for the score, so that
an image that is not routed costs no pass through one.

Source: P2 §III-2 for the entropy. The others are not from a paper.
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
        kind: `entropy` in nats; `normalised_entropy`, the entropy inside the likeliest label cluster
            over its largest value; `margin`, 1 less the lead of the most probable class; `logistic`,
            the log of the odds that the sub-classifier is right rather than the base predictor.
        coefficients: Coefficients of the logistic gate: one for each column of `features`, then the
            constant; empty for the other gates.
    """

    kind: GateKind = "entropy"
    coefficients: tuple[float, ...] = ()


def entropy(probabilities: Float[np.ndarray, "image class"]) -> Float[np.ndarray, "image"]:
    """Compute the entropy of each row, in nats."""
    terms = np.zeros_like(probabilities)
    np.log(probabilities, out=terms, where=probabilities > 0)
    return -(probabilities * terms).sum(axis=1)


def cluster_masses(
    probabilities: Float[np.ndarray, "image class"], clusters: LabelClusters
) -> Float[np.ndarray, "image cluster"]:
    """Add up the probabilities of the classes of each label cluster."""
    return np.stack([probabilities[:, np.array(group)].sum(axis=1) for group in clusters], axis=1)


def choose_cluster(
    probabilities: Float[np.ndarray, "image class"], clusters: LabelClusters
) -> Int[np.ndarray, "image"]:
    """Find the index of the label cluster with the largest mass; of equals, the first."""
    return cluster_masses(probabilities, clusters).argmax(axis=1)


def entropy_inside(
    probabilities: Float[np.ndarray, "image class"], clusters: LabelClusters
) -> Float[np.ndarray, "image"]:
    """Compute the entropy of p(class | likeliest label cluster) over its largest value.

    It is 0 for a single class. Entropy over log C would open the same gate as entropy; this leaves out
    the doubt between label clusters, which no sub-classifier can settle, and makes label clusters of
    different sizes comparable.
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
    """Compute 1 less the lead of the most probable class over the second."""
    if not len(probabilities):
        return np.empty(0)
    two = np.partition(probabilities, -2, axis=1)[:, -2:]
    return 1 - (two[:, 1] - two[:, 0])


def features(
    probabilities: Float[np.ndarray, "image class"], clusters: LabelClusters
) -> Float[np.ndarray, "image 5"]:
    """Compute the features of the logistic gate: the other scores and the two largest masses."""
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
    """Score each image; a broken row of the base predictor scores NaN, which reaches no threshold."""
    if gate.kind == "entropy":
        return entropy(probabilities)
    if gate.kind == "normalised_entropy":
        return entropy_inside(probabilities, clusters)
    if gate.kind == "margin":
        return margin(probabilities)
    *slopes, constant = gate.coefficients
    # Not a matrix product: its rounding would depend on how many images are scored together.
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
    """Fit a logistic gate that tells the errors that routing puts right from those it makes.

    It is fitted on the images whose answer is right only with or only without routing. Where all of
    these are of one kind, or there are none, every image scores 0: the gate is open or shut for all.

    Args:
        probabilities: Probabilities of the base predictor.
        clusters: Label clusters.
        base_wrong: Whether the base predictor errs on each image.
        routed_wrong: Whether the answer is wrong if the image is routed.
    """
    rows = features(probabilities, clusters)
    changed = (base_wrong != routed_wrong) & np.isfinite(rows).all(axis=1)
    is_better = base_wrong[changed]
    if len(np.unique(is_better)) < 2:
        return Gate("logistic", (0.0,) * (rows.shape[1] + 1))
    from sklearn.linear_model import LogisticRegression  # seconds of import

    mean, scale = rows[changed].mean(axis=0), rows[changed].std(axis=0)
    scale = np.where(scale > 0, scale, 1)
    regression = LogisticRegression(max_iter=1000).fit((rows[changed] - mean) / scale, is_better)
    slopes = regression.coef_[0] / scale
    constant = regression.intercept_[0] - (slopes * mean).sum()
    return Gate("logistic", (*map(float, slopes), float(constant)))
