"""Similarity of labels: from the label embeddings of members, or from which labels are confused.

Each also gives similarities of resampled evidence, which the stability of label clusters needs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from ensemble.subclassifiers.embeddings import cosine_similarity

Matrix = Float[np.ndarray, "class class"]


@dataclass(frozen=True)
class LabelSimilarity:
    """Similarity of every pair of labels: symmetric, 1 on the diagonal.

    Attributes:
        matrix: Similarity from all features or images.
        resampled: Gives the similarity from a bootstrap sample of these, by seed.
    """

    matrix: Matrix
    resampled: Callable[[int], Matrix]


def of_embeddings(embeddings: Sequence[Float[np.ndarray, "class _"]]) -> LabelSimilarity:
    """Average the cosine of label embeddings over members; a bootstrap sample draws features.

    Source: P2 §III-1 for one member.
    """

    def mean(rows: Sequence[np.ndarray]) -> Matrix:
        return np.asarray(np.mean([cosine_similarity(part) for part in rows], axis=0))

    def resampled(seed: int) -> Matrix:
        rng = np.random.default_rng(seed)
        return mean(
            [rows[:, rng.integers(rows.shape[1], size=rows.shape[1])] for rows in embeddings]
        )

    return LabelSimilarity(mean(embeddings), resampled)


def of_confusion(
    probabilities: Float[np.ndarray, "image class"], labels: Int[np.ndarray, "image"]
) -> LabelSimilarity:
    """Compare labels by the probabilities of their images; a bootstrap sample draws images.

    Row k of the confusion matrix is the mean probability vector of the images of class k. The
    similarity is the cosine of two rows: high if the classes are confused with each other, or with the
    same other classes.
    """

    def cosine(rows: Int[np.ndarray, "row"]) -> Matrix:
        num_classes = probabilities.shape[1]
        confusion = np.zeros((num_classes, num_classes))
        np.add.at(confusion, labels[rows], np.nan_to_num(probabilities[rows]))
        return cosine_similarity(confusion)

    def resampled(seed: int) -> Matrix:
        return cosine(np.random.default_rng(seed).integers(len(labels), size=len(labels)))

    return LabelSimilarity(cosine(np.arange(len(labels))), resampled)
