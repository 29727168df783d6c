"""Means of logarithms against brute force, on images where everything that could mislead is planted."""

import numpy as np
import pytest

from ensemble.outranking import measures
from ensemble.outranking.builder import from_columns

MEMBERS, IMAGES, CLASSES = 6, 400, 30


def _planted(dtype):
    """Make equal scores, copies of a member, probabilities of 0 and below the floor, NaN and +inf."""
    rng = np.random.default_rng(5)
    logits = rng.normal(scale=2, size=(MEMBERS, IMAGES, CLASSES))
    logs = logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))
    logs[:, :100] = np.round(logs[:, :100] * 2) / 2
    logs[:, 100:150] = rng.choice([-0.5, -1.0, -40.0, -np.inf], (MEMBERS, 50, CLASSES))
    logs[1, 150:200] = logs[0, 150:200]
    labels = rng.integers(0, CLASSES, IMAGES)
    logs[2, np.arange(200, 240), labels[200:240]] = -np.inf
    for member, image in zip(range(MEMBERS), range(250, 400, 25), strict=True):
        logs[member, image : image + 5, rng.integers(0, CLASSES)] = np.nan
    logs[3, 245, 4], logs[4, 246, labels[246]] = np.inf, np.inf
    return logs.astype(dtype), labels


def _is_error(logs, labels, weights, k):
    logs = logs[weights > 0].astype(np.float64)
    broken = (np.isnan(logs) | np.isposinf(logs)).any(axis=(0, 2))
    logs[~(logs < np.inf)] = 0
    integers = np.rint(np.maximum(logs, np.log(2.0**-30)) * 2**25).astype(np.int64)
    scores = np.tensordot(weights[weights > 0], integers, axes=1)
    order = np.argsort(-scores, axis=1, kind="stable")
    return ((order == labels[:, None]).argmax(axis=1) >= k) | broken


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_no_image_differs_at_eight_weights(dtype):
    logs, labels = _planted(dtype)
    columns = {f"m{i}": column for i, column in enumerate(logs)}
    table = from_columns(columns, labels, 2, ("probabilities", "logs")).of("logs")
    rng, ties = np.random.default_rng(0), 0
    weights = [np.full(MEMBERS, 50_000), np.full(MEMBERS, 100_000)]
    weights += [rng.integers(0, 100_001, MEMBERS) for _ in range(3)]
    weights += [
        rng.choice([0, 1, 25_000, 50_000], MEMBERS) + np.eye(6, dtype=int)[0] for _ in "abc"
    ]
    for units in weights:
        for k in (1, 5):
            expected = _is_error(logs, labels, units, k)
            np.testing.assert_array_equal(table.is_error(units, k), expected)
            ties += measures.num_ties(table, units, k)
    assert ties > 10
