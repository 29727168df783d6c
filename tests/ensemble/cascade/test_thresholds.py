import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble.cascade.readings import Readings
from ensemble.cascade.thresholds import effect, exit_steps, fit_thresholds

_COSTS = np.array([1.0, 3.0, 9.0])


def _readings(num_images: int, seed: int) -> Readings:
    """Surer answers are righter, and later steps err less."""
    rng = np.random.default_rng(seed)
    signals = rng.integers(0, 12, (3, num_images)) / 12
    chance = np.array([0.5, 0.35, 0.2])[:, None] * (1.2 - signals)
    is_error = rng.random((3, num_images)) < chance
    return Readings((0, 1, 2), _COSTS, 9.0, is_error, {"confidence": signals})


def _objective(readings: Readings, thresholds: np.ndarray, price: float) -> float:
    result = effect(readings, "confidence", thresholds)
    return result.cost / readings.full_cost + price * result.newly_wrong / result.num_images


@pytest.mark.parametrize("seed", range(8))
def test_no_single_threshold_can_be_moved_for_the_better(seed: int) -> None:
    readings, price = _readings(80, seed), 4.0
    (thresholds,) = fit_thresholds(readings, "confidence", [price])
    best = _objective(readings, thresholds, price)
    for step in (0, 1):
        for value in (*np.unique(readings.signals["confidence"][step]), np.inf):
            moved = thresholds.copy()
            moved[step] = value
            assert best <= _objective(readings, moved, price) + 1e-12


@pytest.mark.parametrize("seed", range(4))
def test_thresholds_come_close_to_the_best_of_all(seed: int) -> None:
    readings, price = _readings(80, seed), 4.0
    (thresholds,) = fit_thresholds(readings, "confidence", [price])
    values = [(*np.unique(each), np.inf) for each in readings.signals["confidence"][:2]]
    best = min(
        _objective(readings, np.array([*pair, -np.inf]), price)
        for pair in itertools.product(*values)
    )
    assert best <= _objective(readings, thresholds, price) <= 1.1 * best


@given(st.integers(0, 10_000), st.lists(st.floats(0, 1), min_size=2, max_size=2))
def test_an_image_stops_at_the_first_step_that_is_sure(seed: int, pair: list[float]) -> None:
    readings = _readings(30, seed)
    thresholds = np.array([*pair, -np.inf])
    steps = exit_steps(readings, "confidence", thresholds)
    wrong = right = 0
    for image, step in enumerate(steps.tolist()):
        values = readings.signals["confidence"][:, image]
        assert step == next(s for s in range(3) if values[s] >= thresholds[s])
        wrong += bool(readings.is_error[step, image] and not readings.is_error[2, image])
        right += bool(readings.is_error[2, image] and not readings.is_error[step, image])
    result = effect(readings, "confidence", thresholds)
    assert (result.newly_wrong, result.newly_right) == (wrong, right)
    assert result.cost == pytest.approx(_COSTS[steps].mean())
    assert sum(result.exits) == pytest.approx(1)


def test_a_high_price_of_errors_costs_more_compute_and_a_low_one_more_errors() -> None:
    readings = _readings(4000, 0)
    path = fit_thresholds(readings, "confidence", [1e4, 1.0, 0.01])
    effects = [effect(readings, "confidence", thresholds) for thresholds in path]
    assert effects[0].newly_wrong == 0
    assert effects[0].cost > effects[1].cost > effects[2].cost
    assert effects[0].newly_wrong < effects[1].newly_wrong < effects[2].newly_wrong
