"""Label clusters: classes that the base finds alike, by spectral clustering.

Source: P2 §IV-2. No superclass information is used.
"""

import numpy as np
from jaxtyping import Float

from ensemble.errors import ConfigError

LabelClusters = tuple[tuple[int, ...], ...]


def spectral_label_clusters(
    similarity: Float[np.ndarray, "class class"], num_clusters: int
) -> LabelClusters:
    """Put classes into S label clusters; the largest first, each sorted.

    Args:
        similarity: Cosine of the label embeddings.
        num_clusters: S, below the number of classes.

    Raises:
        ConfigError: There are not more classes than label clusters.
    """
    num_classes = len(similarity)
    if not 1 <= num_clusters < num_classes:
        raise ConfigError(
            f"subclassifiers.num_clusters has {num_clusters}, and there are {num_classes} classes. "
            f"Expected 2 to {num_classes - 1}."
        )
    if num_clusters == 1:
        return (tuple(range(num_classes)),)
    from sklearn.cluster import SpectralClustering  # seconds of import

    # A graph needs weights >= 0. Cosines go to [0, 1]: cutting them at 0 could take the graph apart.
    affinity = (1 + similarity) / 2
    # cluster_qr has no random start, so that equal embeddings give equal label clusters.
    fitted = SpectralClustering(
        n_clusters=num_clusters, affinity="precomputed", assign_labels="cluster_qr", random_state=0
    ).fit(affinity)
    groups = [np.flatnonzero(fitted.labels_ == label) for label in np.unique(fitted.labels_)]
    clusters = (tuple(int(label) for label in group) for group in groups)
    return tuple(sorted(clusters, key=lambda group: (-len(group), group)))
