import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.errors import ConfigError, EmptySplitError, ShapeError
from ensemble.evaluation import metrics


@pytest.fixture
def shapes_unchecked():
    """Let arrays reach our own checks: a user runs without the type checks of the tests."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def _scores(seed, images=40, classes=6, levels=4):
    rng = np.random.default_rng(seed)
    return rng.integers(0, levels, (images, classes)) / levels, rng.integers(0, classes, images)


@given(seed=st.integers(0, 10_000), levels=st.sampled_from([1, 2, 4, 1000]))
@settings(max_examples=100, deadline=None)
def test_ranks_are_positions_in_a_stable_descending_sort(seed, levels):
    scores, labels = _scores(seed, levels=levels)
    order = np.argsort(-scores, axis=1, kind="stable")
    expected = (order == labels[:, None]).argmax(axis=1)
    np.testing.assert_array_equal(metrics.ranks(scores, labels), expected)
    assert metrics.top_k_error(scores, labels, 1) == np.mean(scores.argmax(axis=1) != labels)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_broken_row_is_a_miss_for_every_k(value):
    scores = np.array([[0.9, 0.1, value], [0.9, 0.1, 0.0]])
    labels = np.array([0, 0])
    assert metrics.ranks(scores, labels).tolist() == [3, 0]
    assert metrics.top_k_error_count(scores, labels, 2) == 1


def test_ranks_do_not_depend_on_blocks():
    scores, labels = _scores(0, images=1000)
    one_by_one = [
        metrics.ranks(row[None], label[None])[0] for row, label in zip(scores, labels, strict=True)
    ]
    assert metrics.ranks(scores, labels).tolist() == one_by_one


def test_nll_agrees_with_torch():
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(50, 7)))
    labels = rng.integers(0, 7, 50)
    expected = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)).item()
    assert metrics.nll(logits.softmax(dim=1).numpy(), labels) == pytest.approx(expected)


def test_nll_of_a_zero_is_finite_and_counted():
    probabilities = np.array([[1.0, 0.0], [0.5, 0.5], [np.nan, 1.0]])
    labels = np.array([1, 0, 1])
    assert metrics.nll(probabilities[:1], labels[:1]) == pytest.approx(30 * np.log(2))
    assert metrics.num_floored(probabilities, labels) == 2


def test_ece_of_known_bins():
    # Two images in the bin around 0.9, one of them right; one in the bin around 0.6, right.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]])
    labels = np.array([0, 1, 1])
    assert metrics.ece(probabilities, labels) == pytest.approx((abs(1 - 1.8) + abs(1 - 0.6)) / 3)


def test_ece_is_zero_for_a_calibrated_classifier_and_leaves_broken_rows_out():
    probabilities = np.array([[1.0, 0.0], [0.5, 0.5], [0.5, 0.5], [np.nan, 0.5]])
    assert metrics.ece(probabilities, np.array([0, 0, 1, 0])) == pytest.approx(0)
    with pytest.raises(EmptySplitError, match="usable scores"):
        metrics.ece(probabilities[3:], np.array([0]))


def test_average_is_the_weighted_mean_of_probabilities():
    rng = np.random.default_rng(0)
    logs = torch.from_numpy(rng.normal(size=(3, 300, 5))).log_softmax(dim=2).numpy()
    weights = np.array([100, 0, 37])
    expected = (np.exp(logs[0]) + 0.37 * np.exp(logs[2])) / 1.37
    np.testing.assert_allclose(metrics.average(logs, weights), expected, atol=1e-11)
    np.testing.assert_array_equal(
        metrics.average(list(logs), weights), metrics.average(logs, weights)
    )


def test_average_is_broken_only_where_a_member_with_a_weight_is():
    logs = np.log(np.full((2, 2, 2), 0.5, dtype=np.float32))
    logs[1, 0, 0] = np.nan
    assert np.isnan(metrics.average(logs, np.array([50, 50]))).tolist() == [[True] * 2, [False] * 2]
    assert not np.isnan(metrics.average(logs, np.array([50, 0]))).any()


def test_k_and_shapes_are_checked(shapes_unchecked):
    scores, labels = _scores(0)
    with pytest.raises(ConfigError, match="k = 6 with 6 classes"):
        metrics.top_k_error(scores, labels, 6)
    with pytest.raises(ShapeError, match="39 labels for 40 rows"):
        metrics.ranks(scores, labels[1:])
    with pytest.raises(ShapeError, match="labels run from"):
        metrics.nll(scores, labels + 6)
    with pytest.raises(EmptySplitError, match="no image"):
        metrics.top_k_error(scores[:0], labels[:0], 1)
    with pytest.raises(ShapeError, match="1 weights for 2 members"):
        metrics.average(np.zeros((2, 3, 4)), np.array([100]))
