from fractions import Fraction
from math import comb

import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from ensemble.errors import ConfigError, EmptySplitError, ShapeError
from ensemble.statistics import (
    effective_number,
    error_correlations,
    mcnemar,
    mean_sd,
    paired_bootstrap,
    score_bounds,
)


@pytest.fixture
def shapes_unchecked():
    """Let arrays reach our own checks: a user runs without the type checks of the tests."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def _wrong(only_a, only_b, both, neither):
    a = np.repeat([True, False, True, False], [only_a, only_b, both, neither])
    b = np.repeat([False, True, True, False], [only_a, only_b, both, neither])
    return a, b


@given(only_a=st.integers(0, 60), only_b=st.integers(0, 60), both=st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_mcnemar_is_the_exact_binomial_test(only_a, only_b, both):
    n, low = only_a + only_b, min(only_a, only_b)
    tail = Fraction(sum(comb(n, i) for i in range(low + 1)), 2**n)
    p = mcnemar(*_wrong(only_a, only_b, both, 3))
    assert p == pytest.approx(float(min(Fraction(1), 2 * tail)), rel=1e-9)
    if n:
        assert p == pytest.approx(binomtest(only_a, n).pvalue, rel=1e-9)


def test_mcnemar_is_1_without_discordant_images():
    assert mcnemar(*_wrong(0, 0, 5, 5)) == 1.0


def test_paired_bootstrap_agrees_with_resampling_the_images():
    a, b = _wrong(60, 30, 100, 310)
    interval = paired_bootstrap(a, b, resamples=20_000, seed=1)
    rng = np.random.default_rng(2)
    difference = a.astype(float) - b
    direct = difference[rng.integers(0, 500, size=(5000, 500))].mean(axis=1)
    low, high = np.quantile(direct, [0.025, 0.975])
    assert interval.mean == pytest.approx(difference.mean())
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.003)
    assert (interval.n, interval.resamples, interval.level) == (500, 20_000, 0.95)


def test_paired_bootstrap_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(300):
        outcome = rng.choice([-1, 0, 1], p=[0.1, 0.8, 0.1], size=400)
        covered += not paired_bootstrap(outcome > 0, outcome < 0, 1000, seed).is_significant
    assert 0.92 <= covered / 300 <= 0.98


def test_paired_bootstrap_is_deterministic_by_seed_and_antisymmetric_in_its_mean():
    a, b = _wrong(9, 4, 1, 30)
    assert paired_bootstrap(a, b, seed=3) == paired_bootstrap(a, b, seed=3)
    assert paired_bootstrap(a, b).mean == -paired_bootstrap(b, a).mean


def test_equal_classifiers_have_an_interval_of_zero():
    a, _ = _wrong(5, 0, 0, 5)
    interval = paired_bootstrap(a, a)
    assert (interval.mean, interval.low, interval.high) == (0, 0, 0)
    assert not interval.is_significant


def test_comparisons_need_the_same_images(shapes_unchecked):
    a, b = _wrong(1, 1, 1, 1)
    for compare in (paired_bootstrap, mcnemar):
        with pytest.raises(ShapeError, match="4 images against 3"):
            compare(a, b[1:])
        with pytest.raises(EmptySplitError, match="no image"):
            compare(a[:0], b[:0])


def test_bootstrap_settings_are_checked():
    a, b = _wrong(1, 1, 1, 1)
    with pytest.raises(ConfigError, match="level = 1"):
        paired_bootstrap(a, b, level=1.0)
    with pytest.raises(ConfigError, match="resamples = 0"):
        paired_bootstrap(a, b, resamples=0)


def test_mean_and_sd_of_runs():
    runs = mean_sd([1.0, 2.0, 3.0])
    assert (runs.mean, runs.sd, runs.n) == (2.0, 1.0, 3)
    assert str(runs) == "2 ± 1 (n = 3)"


def test_a_single_run_has_no_sd():
    assert mean_sd([2.5]).sd is None
    assert str(mean_sd([2.5])) == "2.5 (single run)"
    with pytest.raises(EmptySplitError, match="no value"):
        mean_sd([])


def test_errors_are_correlated_as_numpy_does_it() -> None:
    wrong = np.random.default_rng(2).random((400, 5)) < 0.3
    wrong[:, 1] = wrong[:, 0] ^ (np.arange(400) % 7 == 0)
    assert np.allclose(error_correlations(wrong), np.corrcoef(wrong.T))


def test_a_predictor_that_never_errs_is_correlated_with_none() -> None:
    wrong = np.array([[True, False], [False, False], [True, False]])
    assert error_correlations(wrong)[1].tolist() == [0, 0]


def test_the_effective_number_lies_between_one_and_all() -> None:
    assert effective_number(np.eye(6)) == 6
    assert effective_number(np.ones((6, 6))) == pytest.approx(1)
    assert effective_number(np.where(np.eye(6) == 1, 1.0, 0.2)) == pytest.approx(3)
    assert effective_number(np.array([[1.0, -0.9], [-0.9, 1.0]])) == 2
    assert effective_number(np.ones((1, 1))) == 1


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 500))
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
