import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from ensemble.cascade.readings import Window, read
from ensemble.errors import EmptySplitError, ShapeError
from ensemble.evaluation import metrics
from ensemble.outranking.combine import Combine
from ensemble.outranking.weighting import Weighting

_UNITS = np.array([0, 40000, 25000, 0, 100000])
_COSTS = (1.0, 2.0, 3.0, 4.0, 5.0)


def _windows(num_images: int, seed: int = 0) -> list[Window]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 6, num_images)
    logits = rng.normal(0, 2, (5, num_images, 6))
    logits[:, np.arange(num_images), labels] += 1.5
    logs = (logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))).astype(np.float32)
    half = num_images // 2
    return [(list(logs[:, part]), labels[part]) for part in (slice(0, half), slice(half, None))]


@pytest.mark.parametrize("combine", ["probabilities", "logs"])
@pytest.mark.parametrize("order", [(4, 1, 2), (2, 4, 1), (0, 1, 2, 4)])
def test_each_step_is_the_weighted_mean_of_the_members_so_far(
    order: tuple[int, ...], combine: Combine
) -> None:
    windows = _windows(60)
    (readings,) = read(windows, Weighting(_UNITS, combine, 1.3), _COSTS, [order])
    for step in range(len(order)):
        units = np.zeros(5, dtype=np.int64)
        voters = [member for member in order[: step + 1] if _UNITS[member]] or [order[0]]
        units[voters] = np.maximum(_UNITS[voters], 1)
        for window, (rows, labels) in enumerate(windows):
            part = slice(30 * window, 30 * window + 30)
            weighting = Weighting(units, combine, 1.3)
            scores = metrics.scores(rows, weighting)
            expected = metrics.is_top_k_error(scores, labels, 1)
            assert_array_equal(readings.is_error[step, part], expected)
            probabilities = np.sort(metrics.to_probabilities(scores, 5, weighting), axis=1)
            assert_allclose(readings.signals["confidence"][step, part], probabilities[:, -1])
            margin = probabilities[:, -1] - probabilities[:, -2]
            assert_allclose(readings.signals["margin"][step, part], margin)
    assert_allclose(readings.costs, np.cumsum([_COSTS[member] for member in order]))
    assert readings.full_cost == 10


def test_agreement_counts_the_members_that_give_the_answer() -> None:
    windows = _windows(60)
    (readings,) = read(windows, Weighting(_UNITS), _COSTS, [(4, 1, 2)])
    rows = [np.concatenate([window[member] for window, _ in windows]) for member in range(5)]
    units = np.where(np.arange(5) == 2, 0, _UNITS)
    answers = metrics.scores(rows, Weighting(units)).argmax(axis=1)
    agreeing = sum((rows[member].argmax(axis=1) == answers).astype(int) for member in (4, 1))
    # Confidence decides between images on which equally many agree.
    assert_array_equal(np.floor(readings.signals["agreement"][1]), agreeing)


@pytest.mark.parametrize("order", [(4, 1), (4, 1, 2, 0), (4, 1, 2, 2)])
def test_an_order_has_each_member_of_the_ensemble_once(order: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="does not have each of the members"):
        read(_windows(8), Weighting(_UNITS), _COSTS, [order])


def test_costs_are_one_above_zero_for_each_member() -> None:
    with pytest.raises(ShapeError, match="4 costs for 5 members"):
        read(_windows(8), Weighting(_UNITS), _COSTS[:4], [(4, 1, 2)])


def test_without_images_there_is_nothing_to_fit() -> None:
    with pytest.raises(EmptySplitError, match="no image"):
        read([], Weighting(_UNITS), _COSTS, [(4, 1, 2)])
