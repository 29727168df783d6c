"""Paired tests: exact p-values, bounds that hold, Holm's rule, and groups that count once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble.errors import EmptySplitError, ShapeError
from ensemble.nightly.paired import (
    compare_errors,
    compare_sums,
    exact_p,
    holm,
    images_to_decide,
)
from ensemble.statistics import mcnemar

counts = st.integers(0, 60)


@given(counts, counts)
def test_twice_the_smaller_p_is_mcnemars(wrong: int, right: int) -> None:
    before = np.array([False] * wrong + [True] * right + [True] * 5)
    after = np.array([True] * wrong + [False] * right + [True] * 5)
    smaller = min(exact_p(wrong, right), exact_p(right, wrong))
    assert min(1.0, 2 * smaller) == pytest.approx(mcnemar(before, after))


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
