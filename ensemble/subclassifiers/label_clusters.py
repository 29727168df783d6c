"""Label clusters: classes that are alike to the base, put together without superclasses.

Source: P2 §IV-2 for spectral clustering. The other clusterings are among the future work of P2 §V.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from ensemble.errors import ConfigError
from ensemble.subclassifiers.settings import Clustering, SubclassifiersConfig

LabelClusters = tuple[tuple[int, ...], ...]

NUM_STABILITY_SEEDS = 10


def label_clusters(
    similarity: Float[np.ndarray, "class class"],
    num_clusters: int,
    config: SubclassifiersConfig,
) -> LabelClusters:
    """Put classes into label clusters as the settings say; the largest first, each sorted.

    Bounds on their size can change how many there are.

    Args:
        similarity: Symmetric, from -1 to 1; 1 on the diagonal.
        num_clusters: Number of label clusters (S), below the number of classes.
        config: The clustering, and the bounds.

    Raises:
        ConfigError: There are as many label clusters as classes, or more.
    """
    num_classes = len(similarity)
    check_num_clusters(num_clusters, num_classes)
    if num_clusters == 1:
        return (tuple(range(num_classes)),)
    numbers = _CLUSTERINGS[config.clustering](similarity, num_clusters)
    groups = [np.flatnonzero(numbers == number).tolist() for number in np.unique(numbers)]
    groups = _join_small(groups, similarity, config.min_cluster_size)
    if config.max_cluster_size is not None:
        groups = _cut_large(groups, similarity, config.max_cluster_size)
    clusters = (tuple(sorted(group)) for group in groups)
    return tuple(sorted(clusters, key=lambda group: (-len(group), group)))


def check_num_clusters(num_clusters: int, num_classes: int) -> None:
    """Refuse as many label clusters as classes, or more.

    Raises:
        ConfigError: There are as many label clusters as classes, or more, or none.
    """
    if not 1 <= num_clusters < num_classes:
        raise ConfigError(
            f"subclassifiers.num_clusters has {num_clusters}, and there are {num_classes} classes. "
            f"Expected 2 to {num_classes - 1}."
        )


def stability(
    clusters: LabelClusters,
    resampled: Callable[[int], Float[np.ndarray, "class class"]],
    num_clusters: int,
    config: SubclassifiersConfig,
) -> tuple[float, ...]:
    """Compute the adjusted Rand index with the label clusters of resampled similarities, by seed.

    1 is the same label clusters; 0 is the agreement of chance.

    Args:
        clusters: Label clusters of the whole similarity.
        resampled: Gives the similarity of a bootstrap sample, by seed.
        num_clusters: Number of label clusters (S).
        config: The clustering, and the bounds.
    """
    from sklearn.metrics import adjusted_rand_score  # seconds of import

    ours = labels_of(clusters)
    return tuple(
        float(
            adjusted_rand_score(
                ours, labels_of(label_clusters(resampled(seed), num_clusters, config))
            )
        )
        for seed in range(NUM_STABILITY_SEEDS)
    )


def agreement(clusters: LabelClusters, groups: Int[np.ndarray, "class"]) -> tuple[float, float]:
    """Compare label clusters with known groups of classes, such as superclasses.

    Args:
        clusters: Label clusters.
        groups: Index of the group of each class.

    Returns:
        The adjusted Rand index, 0 for the agreement of chance, and the normalised mutual information, which is
        above 0 by chance. Both are 1 for equal partitions.
    """
    from sklearn.metrics import (  # seconds of import
        adjusted_rand_score,
        normalized_mutual_info_score,
    )

    ours = labels_of(clusters)
    return (
        float(adjusted_rand_score(groups, ours)),
        float(normalized_mutual_info_score(groups, ours)),
    )


def labels_of(clusters: LabelClusters) -> Int[np.ndarray, "class"]:
    """Give the index of the label cluster of each class."""
    out = np.empty(sum(map(len, clusters)), np.int64)
    for number, group in enumerate(clusters):
        out[list(group)] = number
    return out


def _affinity(similarity: Float[np.ndarray, "class class"]) -> Float[np.ndarray, "class class"]:
    # A graph needs weights >= 0. Cosines go to [0, 1]: cutting them at 0 could take the graph apart.
    return (1 + similarity) / 2


def _spectral(similarity: np.ndarray, num_clusters: int) -> np.ndarray:
    from sklearn.cluster import SpectralClustering  # seconds of import

    # cluster_qr has no random start, so that equal similarities give equal label clusters.
    return (
        SpectralClustering(
            n_clusters=num_clusters,
            affinity="precomputed",
            assign_labels="cluster_qr",
            random_state=0,
        )
        .fit(_affinity(similarity))
        .labels_
    )


def _agglomerative(similarity: np.ndarray, num_clusters: int) -> np.ndarray:
    from sklearn.cluster import AgglomerativeClustering  # seconds of import

    # Average linkage: single linkage chains classes one by one, complete linkage sees outliers alone.
    clustering = AgglomerativeClustering(
        n_clusters=num_clusters, metric="precomputed", linkage="average"
    )
    return clustering.fit(1 - similarity).labels_


def _kmeans(similarity: np.ndarray, num_clusters: int) -> np.ndarray:
    from sklearn.cluster import KMeans  # seconds of import

    # Rows whose inner products are the similarities: of cosines, the normalised embeddings up to a
    # rotation, which k-means does not see.
    values, vectors = np.linalg.eigh(similarity)
    rows = vectors * np.sqrt(np.maximum(values, 0))
    return KMeans(num_clusters, n_init=10, random_state=0).fit(rows).labels_


_CLUSTERINGS: dict[Clustering, Callable[[np.ndarray, int], np.ndarray]] = {
    "spectral": _spectral,
    "agglomerative": _agglomerative,
    "kmeans": _kmeans,
}


def _join_small(
    groups: Sequence[list[int]], similarity: np.ndarray, smallest: int
) -> list[list[int]]:
    """Join the smallest group to the one most like it, until none is too small."""
    joined = [list(group) for group in groups]
    while len(joined) > 1:
        joined.sort(key=lambda group: (len(group), group))
        least, *others = joined
        if len(least) >= smallest:
            break
        likeness = [similarity[np.ix_(least, other)].mean() for other in others]
        nearest = int(np.argmax(likeness))
        others[nearest] = sorted(others[nearest] + least)
        joined = others
    return joined


def _cut_large(
    groups: Sequence[list[int]], similarity: np.ndarray, largest: int
) -> list[list[int]]:
    """Cut groups that are too large into equal parts along the line that keeps like classes near."""
    parts = []
    for group in groups:
        num_parts = -(-len(group) // largest)
        order = _line_up(_affinity(similarity[np.ix_(group, group)]))
        parts += [[group[i] for i in part] for part in np.array_split(order, num_parts)]
    return parts


def _line_up(affinity: Float[np.ndarray, "class class"]) -> Int[np.ndarray, "class"]:
    """Order classes by the second eigenvector of the graph's Laplacian, as a two-way cut does."""
    if len(affinity) < 2:
        return np.arange(len(affinity))
    _, vectors = np.linalg.eigh(np.diag(affinity.sum(axis=1)) - affinity)
    line = vectors[:, 1]
    # The sign of an eigenvector is arbitrary, and equal similarities must give an equal order.
    line = line * np.sign(line[np.argmax(np.abs(line))])
    return np.argsort(line, kind="stable")
