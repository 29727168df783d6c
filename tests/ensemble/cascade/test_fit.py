import numpy as np
import pytest

from ensemble.cascade.fit import fit, frontier, orders
from ensemble.cascade.readings import Readings
from ensemble.cascade.steps import SIGNALS
from ensemble.cascade.thresholds import effect
from ensemble.errors import ConfigError, ShapeError
from ensemble.outranking.weighting import Weighting


def _readings(num_images: int, seed: int, order: tuple[int, ...] = (0, 1, 2)) -> Readings:
    """Most images are easy: the first member is sure of them, and right."""
    rng = np.random.default_rng(seed)
    is_easy = rng.random(num_images) < 0.7
    confidence = np.where(is_easy, 0.97, 0.5) + rng.normal(0, 0.02, (3, num_images))
    hard = rng.random(num_images)
    is_error = np.where(is_easy, hard < 0.002, hard < np.array([0.6, 0.5, 0.4])[:, None])
    signals = {name: confidence for name in SIGNALS}
    return Readings(order, np.array([1.0, 4.0, 10.0]), 10.0, is_error, signals)


def test_easy_images_stop_early_and_the_simplest_signal_is_taken() -> None:
    cascade = fit([_readings(4000, 0)], lose=0.01)
    assert cascade.signal == "confidence"
    assert cascade.speedup > 2
    assert cascade.bound <= 0.01
    judged = effect(_readings(4000, 1), cascade.signal, cascade.thresholds)
    assert judged.loss <= 0.01
    assert cascade.full_cost / judged.cost > 2


@pytest.mark.nightly
def test_the_promise_is_kept_on_images_that_nothing_was_fitted_on() -> None:
    kept = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        confidence = rng.random((3, 4000))
        # The first answer errs the more the less sure it is; the whole ensemble errs on a fifth.
        is_error = rng.random((3, 4000)) < np.array([0.5, 0.3, 0.2])[:, None] * (1.4 - confidence)
        readings = Readings(
            (0, 1, 2), np.array([1.0, 4.0, 10.0]), 10.0, is_error, {s: confidence for s in SIGNALS}
        )
        rows = np.arange(4000)
        cascade = fit([readings.take(rows[:2000])], lose=0.03, seed=seed)
        judged = effect(readings.take(rows[2000:]), cascade.signal, cascade.thresholds)
        kept += judged.loss <= 0.03
    assert kept >= 36  # nine of ten


def test_the_cheapest_order_is_taken() -> None:
    slow = _readings(4000, 0, (1, 0, 2))
    slow = Readings(slow.order, np.array([5.0, 8.0, 10.0]), 10.0, slow.is_error, slow.signals)
    assert fit([slow, _readings(4000, 0)], lose=0.01).order == (0, 1, 2)


def test_a_greater_loss_buys_less_compute() -> None:
    readings = _readings(4000, 0)
    costs = [fit([readings], lose).fitted.cost for lose in (0.003, 0.03, 0.2)]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > costs[-1]


def test_too_few_images_for_a_promise_are_named_with_how_many_are_needed() -> None:
    with pytest.raises(
        ConfigError, match=r"100 images cannot show .* Expected 2707 images or more"
    ):
        fit([_readings(100, 0)], lose=0.001)


@pytest.mark.parametrize("lose", [0.0, -0.1, 1.0, float("nan")])
def test_a_promise_is_a_share(lose: float) -> None:
    with pytest.raises(ConfigError, match="expected a share"):
        fit([_readings(100, 0)], lose)


def test_without_an_order_there_is_nothing_to_fit() -> None:
    with pytest.raises(ShapeError, match="no order"):
        fit([], lose=0.1)


def test_the_frontier_runs_from_no_loss_to_little_compute() -> None:
    points = frontier(_readings(4000, 0), "confidence")
    assert points[0].loss == pytest.approx(0, abs=0.001)
    assert points[-1].cost < points[0].cost


def test_orders_have_all_members_with_weight_and_a_cheap_lead_at_most() -> None:
    weighting = Weighting(np.array([30000, 0, 100000, 0, 0]))
    proposed = orders(weighting, (5.0, 1.0, 10.0, 2.0, 20.0), (50, 90, 40, 95, 30))
    assert {(0, 2), (2, 0)} <= set(proposed)
    # The fourth member is worse than the second and dearer; the fifth costs more than a quarter of the whole.
    assert {order[0] for order in proposed} == {0, 1, 2}
    assert all(set(order) - {1} == {0, 2} for order in proposed)
