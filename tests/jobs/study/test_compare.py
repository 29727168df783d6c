"""The statistics of a stage on errors whose truth is known."""

import numpy as np
import pytest

from ensemble.statistics import Interval
from jobs.study.compare import against_base, choose, smallest_detectable


def _wrong(rng: np.random.Generator, *rates: float) -> np.ndarray:
    return np.stack([rng.random((3, 400)) < rate for rate in rates])


def test_a_clearly_better_row_is_chosen_every_time() -> None:
    choice = choose(_wrong(np.random.default_rng(0), 0.5, 0.1, 0.5), 200, 0)
    assert choice.winner == 1
    assert choice.shares == pytest.approx([0, 1, 0])


def test_equal_rows_divide_the_samples_and_the_base_stays() -> None:
    row = _wrong(np.random.default_rng(1), 0.3)[0]
    choice = choose(np.stack([row, row]), 200, 0)
    assert choice.winner == 0
    assert choice.shares == pytest.approx([0.5, 0.5])


def test_a_difference_is_the_mean_over_seeds_and_images_and_lies_in_its_interval() -> None:
    base, row = _wrong(np.random.default_rng(2), 0.4, 0.2)
    (found,) = against_base([row], base, 500, 0)
    assert found.difference == pytest.approx(row.mean() - base.mean())
    assert found.low < found.difference < found.high < 0


def test_a_row_that_answers_as_the_base_does_has_no_difference() -> None:
    base = _wrong(np.random.default_rng(3), 0.4)[0]
    (found,) = against_base([base], base, 200, 0)
    assert (found.difference, found.low, found.high, found.detectable) == (0, 0, 0, 0)


def test_seeds_that_disagree_widen_the_interval() -> None:
    base = np.zeros((2, 400), bool)
    rng = np.random.default_rng(4)
    alike = rng.random((2, 400)) < 0.3
    apart = np.stack([rng.random(400) < 0.6, np.zeros(400, bool)])
    narrow, wide = against_base([alike, apart], base, 500, 0)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_an_average_is_compared_with_the_mean_of_the_seeds_that_it_stands_for() -> None:
    base = _wrong(np.random.default_rng(5), 0.4)[0]
    row = _wrong(np.random.default_rng(6), 0.4)[0]
    plain, average = against_base([row, row[:1]], base, 300, 0)
    assert average.difference == pytest.approx(row[0].mean() - base.mean())
    assert plain == against_base([row], base, 300, 0)[0]


def test_the_detectable_difference_is_2_8_standard_errors() -> None:
    # Power 0.8 at 95 %: 1.960 + 0.842 standard errors.
    interval = Interval(0.0, -1.96, 1.96, 0.95, 100, 1000)
    assert smallest_detectable(interval) == pytest.approx(2.802, abs=1e-3)
