"""Paired tests: exact p-values, bounds that hold, Holm's rule, and groups that count once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble.errors import ConfigError, EmptySplitError, ShapeError
from ensemble.nightly.paired import (
    compare_errors,
    compare_sums,
    exact_p,
    holm,
    images_to_decide,
    score_bounds,
)
from ensemble.statistics import mcnemar

counts = st.integers(0, 60)


@given(counts, counts)
def test_twice_the_smaller_p_is_mcnemars(wrong: int, right: int) -> None:
    before = np.array([False] * wrong + [True] * right + [True] * 5)
    after = np.array([True] * wrong + [False] * right + [True] * 5)
    smaller = min(exact_p(wrong, right), exact_p(right, wrong))
    assert min(1.0, 2 * smaller) == pytest.approx(mcnemar(before, after))


@given(counts, counts, st.integers(0, 500))
def test_bounds_hold_the_estimate_and_mirror_each_other(
    wrong: int, right: int, others: int
) -> None:
    n = wrong + right + others + 1
    low, high = score_bounds(wrong, right, n)
    assert -1 <= low <= (wrong - right) / n + 1e-9
    assert (wrong - right) / n - 1e-9 <= high <= 1
    mirrored_low, mirrored_high = score_bounds(right, wrong, n)
    assert (low, high) == pytest.approx((-mirrored_high, -mirrored_low), abs=1e-6)


@pytest.mark.parametrize("loss", [0.0, 0.01])
def test_upper_bound_covers_the_true_loss_as_often_as_it_says(loss: float) -> None:
    rng = np.random.default_rng(0)
    shares = [0.02 + loss, 0.02, 0.96 - loss]
    draws = rng.multinomial(1000, shares, size=1500)
    covered = [score_bounds(int(a), int(b), 1000)[1] >= loss for a, b, _ in draws]
    assert np.mean(covered) > 0.935


def test_without_a_discordant_image_the_bound_is_not_zero() -> None:
    assert score_bounds(0, 0, 1000)[1] == pytest.approx(1.645**2 / (1000 + 1.645**2), rel=1e-2)


def test_level_below_a_half_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"level = 0.3; expected a confidence"):
        score_bounds(1, 2, 10, 0.3)


def test_a_copied_image_is_no_further_evidence() -> None:
    rng = np.random.default_rng(1)
    before, after = rng.random(300) < 0.1, rng.random(300) < 0.14
    alone = compare_errors(before, after)
    copied = compare_errors(np.repeat(before, 4), np.repeat(after, 4), np.repeat(np.arange(300), 4))
    assert copied.p_worse == alone.p_worse
    assert copied.loss == alone.loss


def test_groups_keep_the_share_of_false_alarms() -> None:
    """Without groups, 5 % become a multiple: 12 views of an object err together."""
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(80), 12)
    alarms = {True: 0, False: 0}
    for _ in range(300):
        draws = rng.random((2, 80)) < 0.3
        before, after = (np.repeat(draw, 12) ^ (rng.random(960) < 0.03) for draw in draws)
        for is_grouped in alarms:
            evidence = compare_errors(before, after, groups if is_grouped else None)
            alarms[is_grouped] += evidence.p_worse <= 0.05
    assert alarms[True] <= 24
    assert alarms[False] > 50


def test_bootstrap_p_values_are_uniform_where_nothing_differs() -> None:
    from scipy.stats import kstest

    rng = np.random.default_rng(3)
    ps = []
    for _ in range(300):
        common = rng.exponential(1.0, (400, 1))
        before, after = (common + rng.exponential(0.2, (400, 1)) for _ in range(2))
        ps.append(compare_sums(before, after, resamples=300).p_worse)
    assert kstest(ps, "uniform").pvalue > 0.01


def test_equal_figures_are_no_loss() -> None:
    values = np.random.default_rng(0).random((50, 1))
    evidence = compare_sums(values, values)
    assert (evidence.loss, evidence.p_worse, evidence.p_better) == (0.0, 1.0, 1.0)


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_rejects_at_least_what_equal_parts_of_the_level_do(ps: list[float]) -> None:
    rejected = holm(ps, 0.05)
    assert all(was or p > 0.05 / len(ps) for p, was in zip(ps, rejected, strict=True))
    assert not any(was and p > 0.05 for p, was in zip(ps, rejected, strict=True))


def test_more_images_are_needed_for_a_smaller_effect() -> None:
    before = np.arange(1000) < 50
    evidence = compare_errors(before, np.roll(before, 10))
    assert images_to_decide(evidence, 0.01) < images_to_decide(evidence, 0.005)
    assert images_to_decide(evidence, 0.5) == 1001


def test_other_images_are_refused() -> None:
    with pytest.raises(ShapeError, match="3 images before and 4 after"):
        compare_errors(np.zeros(3, bool), np.zeros(4, bool))
    with pytest.raises(EmptySplitError, match="no image to compare on"):
        compare_errors(np.zeros(0, bool), np.zeros(0, bool))
