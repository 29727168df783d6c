import numpy as np
import pytest

from ensemble.evaluation.outcome import Outcome
from ensemble.report.build.diagnostics import (
    MAX_CONFUSIONS,
    agreement,
    errors_by_class,
    reliability_at,
)

NUM_CLASSES, N = 5, 300
LABELS = np.random.default_rng(0).integers(0, NUM_CLASSES - 1, N)  # the last class has no image


def outcome(seed: int) -> Outcome:
    scores = np.random.default_rng(seed).random((N, NUM_CLASSES))
    scores[np.arange(N), LABELS] += 0.5
    return Outcome.of(scores / scores.sum(axis=1, keepdims=True), LABELS)


@pytest.mark.parametrize("k", [1, 2])
def test_errors_by_class_add_up_to_all_errors(k: int) -> None:
    best, recommended = outcome(1), outcome(2)
    errors = errors_by_class(LABELS, NUM_CLASSES, ("a", best), ("b", recommended), k)
    assert [row.label for row in errors.classes] == list(range(NUM_CLASSES))
    assert sum(row.images for row in errors.classes) == N
    assert sum(row.best_errors for row in errors.classes) == best.errors(k)
    assert sum(row.errors for row in errors.classes) == recommended.errors(k)
    for row in errors.classes:
        assert row.errors == (recommended.is_error(k) & (row.label == LABELS)).sum()
    listed = sum(pair.images for pair in errors.confusions)
    assert recommended.errors(1) / 2 < listed <= recommended.errors(1)
    assert len(errors.confusions) <= MAX_CONFUSIONS


def test_reliability_at_a_temperature_that_was_not_kept_is_that_before_alone() -> None:
    both = reliability_at("a", outcome(1), 1.0, None)
    assert both.after is None
    assert sum(part.images for part in both.before.bins) == N
    kept = reliability_at("a", outcome(1), 0.5, outcome(2))
    assert kept.after is not None
    assert (kept.before, kept.after.temperature) == (both.before, 0.5)


def test_agreement_is_that_of_brute_force() -> None:
    wrong = {name: outcome(seed).is_error(1) for seed, name in enumerate("abcd")}
    shared = agreement(wrong, ["b", "d"])
    assert shared is not None
    matrix = np.corrcoef(np.stack(list(wrong.values())))
    assert np.allclose(shared.correlation, matrix, atol=1e-6)
    for i, one in enumerate(wrong.values()):
        for j, other in enumerate(wrong.values()):
            assert shared.disagreement[i][j] == pytest.approx((one != other).mean(), abs=1e-6)
    mean = max(0.0, matrix[1, 3])
    assert shared.effective_selected == pytest.approx(2 / (1 + mean), abs=1e-6)
    assert shared.members == ("a", "b", "c", "d")
    assert agreement({"a": wrong["a"]}, ["a"]) is None


def test_a_member_counts_once_however_often_it_stands_in_the_pool() -> None:
    wrong = outcome(0).is_error(1)
    shared = agreement({"a": wrong, "b": wrong, "c": wrong}, ["a"])
    assert shared is not None
    assert shared.effective_all == pytest.approx(1)
