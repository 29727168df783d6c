"""A pool of made-up members for tests of searches."""

import numpy as np
from jaxtyping import Float, Int

from ensemble.outranking.builder import from_columns
from ensemble.outranking.table import OutrankingTable


def make_pool(
    seed: int, images: int = 300, classes: int = 6, members: int = 5
) -> tuple[Float[np.ndarray, "member image class"], Int[np.ndarray, " image"]]:
    """Members that are better than chance, the last one best, and a copy of it in front."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    logits = rng.normal(scale=1.5, size=(members, images, classes))
    logits[:, np.arange(images), labels] += np.linspace(1.5, 3, members)[:, None]
    logits[0] = logits[-1]
    logs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return logs, labels


def make_table(
    logs: Float[np.ndarray, "member image class"], labels: Int[np.ndarray, " image"]
) -> OutrankingTable:
    """The outranking table of members m0, m1, …"""
    return from_columns({f"m{i}": column for i, column in enumerate(logs)}, labels)
