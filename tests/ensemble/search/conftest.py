"""Pools that provoke ties, underflow and broken rows, and the brute force they are judged by."""

from collections.abc import Callable

import jaxtyping
import numpy as np
import pytest

Pool = tuple[np.ndarray, np.ndarray]  # log-probabilities [member, image, class], labels [image]


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def _logs(kind: str, rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    members, images, classes = shape
    random = _log_softmax(rng.normal(scale=2, size=shape))
    with np.errstate(divide="ignore"):
        if kind == "eighths":
            return np.log(rng.integers(0, 3, size=shape) / 8)
        if kind == "one_hot":
            return np.log(np.eye(classes)[rng.integers(0, classes, size=(members, images))])
        if kind == "constant":
            return np.full(shape, -np.log(classes))
        if kind == "duplicates":
            return np.repeat(random[:1], members, axis=0)
        if kind == "tiny":
            return np.log(rng.integers(0, 4, size=shape) * 2.0**-31)
    if kind in ("broken", "half_broken"):
        for value in (np.nan, -np.nan, np.inf, -np.inf):
            where = tuple(rng.integers(0, size, size=2) for size in shape)
            random[where] = value
    return random


@pytest.fixture(scope="session")
def make_pool() -> Callable[..., Pool]:
    def make(kind: str, seed: int, shape: tuple[int, int, int]) -> Pool:
        rng = np.random.default_rng(seed)
        dtypes = {"half": np.float16, "half_broken": np.float16, "double": np.float64}
        logs = _logs(kind, rng, shape).astype(dtypes.get(kind, np.float32))
        return logs, rng.integers(0, shape[2], size=shape[1])

    return make


@pytest.fixture(scope="session")
def brute_force() -> Callable[..., np.ndarray]:
    """Tell which images are top-k errors, in int64 and with every class of every image."""

    def is_error(logs: np.ndarray, labels: np.ndarray, weights: np.ndarray, k: int) -> np.ndarray:
        logs = logs.astype(np.float64)[weights > 0]
        broken = (np.isnan(logs) | np.isposinf(logs)).any(axis=(0, 2))
        logs[~(logs < np.inf)] = 0
        integers = np.rint(np.exp(logs) * 2**30).astype(np.int64)
        scores = np.tensordot(weights[weights > 0], integers, axes=1)
        order = np.argsort(-scores, axis=1, kind="stable")
        position = (order == labels[:, None]).argmax(axis=1)
        return (position >= k) | broken

    return is_error


@pytest.fixture
def shapes_unchecked():
    """Let arrays reach our own checks: a user runs without the type checks of the tests."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
