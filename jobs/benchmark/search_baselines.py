"""Baselines of the searches: brute force, and ensemble selection as published and as in AutoGluon."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float32, Int

Selection = Callable[
    [Sequence[Float32[np.ndarray, "image class"]], Int[np.ndarray, " image"], int], int
]


def topk_errors(
    so_far: Float32[np.ndarray, "image class"],
    member: Float32[np.ndarray, "image class"],
    labels: Int[np.ndarray, " image"],
    weight: float,
    k: int,
) -> int:
    """Count errors at one weight with torch.topk on dense probabilities, float32."""
    import torch

    scores = torch.add(torch.from_numpy(so_far), torch.from_numpy(member), alpha=weight)
    top = scores.topk(k, dim=1).indices
    hit = (top == torch.from_numpy(labels)[:, None]).any(dim=1)
    return int((~hit).sum())


def set_torch_threads(threads: int) -> str:
    """Let torch use as many threads as the searches, and give its version."""
    import torch

    torch.set_num_threads(threads)
    return str(torch.__version__)


def plain_selection(
    probabilities: Sequence[Float32[np.ndarray, "image class"]],
    labels: Int[np.ndarray, " image"],
    rounds: int,
) -> tuple[Int[np.ndarray, " member"], int]:
    """Select with replacement by accuracy, as published: dense averages, every candidate anew.

    Returns:
        Votes of the best round, and its top-1 errors.

    Source: Caruana et al. 2004, section 2; ties go to the first.
    """
    total = np.zeros_like(probabilities[0])
    votes, best = np.zeros(len(probabilities), dtype=np.int64), (len(labels) + 1, 0)
    best_votes = votes
    for done in range(rounds):
        errors = [
            int(np.count_nonzero(((total + p) / (done + 1)).argmax(axis=1) != labels))
            for p in probabilities
        ]
        member = int(np.argmin(errors))
        total += probabilities[member]
        votes = votes + np.eye(len(votes), dtype=np.int64)[member]
        if errors[member] < best[0]:
            best, best_votes = (errors[member], done), votes
    return best_votes, best[0]


def autogluon_selection() -> Selection | None:
    """Give AutoGluon's own EnsembleSelection by accuracy; None where it is not installed.

    The function takes probabilities, labels and rounds, and returns its top-1 errors.
    """
    try:
        from autogluon.core.constants import MULTICLASS
        from autogluon.core.metrics import accuracy
        from autogluon.core.models.greedy_ensemble.ensemble_selection import (
            EnsembleSelection,
        )
    except ModuleNotFoundError:
        return None

    def select(
        probabilities: Sequence[Float32[np.ndarray, "image class"]],
        labels: Int[np.ndarray, " image"],
        rounds: int,
    ) -> int:
        chosen = EnsembleSelection(ensemble_size=rounds, problem_type=MULTICLASS, metric=accuracy)
        chosen.fit(predictions=list(probabilities), labels=labels)
        average = sum(w * p for w, p in zip(chosen.weights_, probabilities, strict=True))
        return int(np.count_nonzero(np.asarray(average).argmax(axis=1) != labels))

    return select
