from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.errors import ConfigError
from ensemble.evaluation import metrics
from ensemble.outranking import measures
from ensemble.outranking.boxed import box_table
from ensemble.outranking.builder import OutrankingBuilder, from_columns
from ensemble.outranking.extend import append_images
from ensemble.outranking.fixed_point import (
    LOG_FLOOR,
    LOG_TOLERANCE,
    MAX_LOG_BITS,
    FixedPoint,
    fraction_bits,
    largest_total,
)
from ensemble.outranking.likely_classes import NUM_LIKELIEST
from ensemble.outranking.one_weight import nlls, plateaus, sweep
from ensemble.outranking.weighting import Weighting

from ..pools import cases, random_weights

CASES = cases((1, 5), (1, 30), (2, 12))
BOTH = ("probabilities", "logs")


def _both(logs, labels, **options):
    columns = {f"m{i}": column for i, column in enumerate(logs)}
    return from_columns(columns, labels, combines=BOTH, **options)


def _is_error(logs, labels, weights, k):
    """Tell which images are top-k errors of a mean of logarithms, in Python's integers, class by class."""
    wrong = []
    for image, label in enumerate(labels.tolist()):
        rows = logs[weights > 0, image].astype(np.float64)
        if (np.isnan(rows) | np.isposinf(rows)).any():
            wrong.append(True)
            continue
        integers = np.rint(np.maximum(rows, np.log(2.0**-30)) * 2**25).astype(object)
        scores = [
            int(score) for score in weights[weights > 0].astype(object) @ integers.astype(int)
        ]
        above = [c for c in range(len(scores)) if (-scores[c], c) < (-scores[label], label)]
        wrong.append(len(above) >= k)
    return np.array(wrong)


def _assert_same(a, b):
    for name, value in vars(a).items():
        if isinstance(value, np.ndarray) and name in a.__dataclass_fields__:
            assert value.dtype == getattr(b, name).dtype
            assert value.tobytes() == getattr(b, name).tobytes(), name
    assert (a.likely is None) == (b.likely is None)
    if a.likely is not None:
        assert a.likely.steps.tobytes() == b.likely.steps.tobytes()
        assert a.likely.images.tobytes() == b.likely.images.tobytes()


@given(**CASES)
@settings(max_examples=150, deadline=None)
def test_errors_of_logs_equal_brute_force_image_by_image(make_pool, kind, seed, shape):
    logs, labels = make_pool(kind, seed, shape)
    table, weights = _both(logs, labels).of("logs"), random_weights(seed, shape[0])
    dense = metrics.scores(logs, Weighting(weights, "logs"))
    for k in range(1, min(11, shape[2])):
        expected = _is_error(logs, labels, weights, k)
        np.testing.assert_array_equal(table.is_error(weights, k), expected)
        np.testing.assert_array_equal(metrics.is_top_k_error(dense, labels, k), expected)


@given(**CASES)
@settings(max_examples=40, deadline=None)
def test_a_sweep_of_logs_equals_brute_forces(make_pool, kind, seed, shape):
    logs, labels = make_pool(kind, seed, shape)
    table, weights = _both(logs, labels).of("logs"), random_weights(seed, shape[0])
    rng = np.random.default_rng(seed)
    member, k = int(rng.integers(shape[0])), int(rng.integers(1, shape[2]))
    others = np.where(np.arange(shape[0]) == member, 0, weights)
    if not others.any():
        return
    expected = [
        _is_error(
            logs, labels, np.where(np.arange(shape[0]) == member, weight * 10_000, others), k
        ).sum()
        for weight in range(11)
    ]
    assert sweep(table, weights, member, k, num_steps=10).tolist() == expected


@given(**CASES)
@settings(max_examples=60, deadline=None)
def test_boxed_logs_and_plateaus_agree_with_the_full_table(make_pool, kind, seed, shape):
    logs, labels = make_pool(kind, seed, shape)
    table, weights = _both(logs, labels).of("logs"), random_weights(seed, shape[0])
    anchor = seed % shape[0]
    weights[anchor] = 100_000
    for k in range(1, min(11, shape[2])):
        boxed = box_table(table, anchor, k)
        np.testing.assert_array_equal(boxed.is_error(weights, k), table.is_error(weights, k))
        for member in set(range(shape[0])) - {anchor}:
            others = np.where(np.arange(shape[0]) == member, 0, weights)
            curve = sweep(boxed, weights, member, k)
            line = plateaus(table, others, member, k, table.scores(others), 0, None, 300_000)
            assert line is not None
            np.testing.assert_array_equal(line.at(np.arange(101) * 1000), curve)


@given(cuts=st.lists(st.integers(0, 30), max_size=4), threads=st.integers(1, 3), **CASES)
@settings(max_examples=40, deadline=None)
def test_windows_give_both_tables_of_one_shot(make_pool, kind, seed, shape, cuts, threads):
    logs, labels = make_pool(kind, seed, shape)
    builder = OutrankingBuilder([f"m{i}" for i in range(shape[0])], threads, BOTH)
    bounds = [0, *sorted(min(cut, shape[1]) for cut in cuts), shape[1]]
    for first, last in pairwise(bounds):
        builder.add(logs[:, first:last], labels[first:last])
    found, expected = builder.finish(), _both(logs, labels)
    _assert_same(found, expected)
    _assert_same(found.of("logs"), expected.of("logs"))


@given(**CASES)
@settings(max_examples=60, deadline=None)
def test_the_table_of_probabilities_does_not_depend_on_that_of_logs(make_pool, kind, seed, shape):
    logs, labels = make_pool(kind, seed, shape)
    alone = from_columns({f"m{i}": column for i, column in enumerate(logs)}, labels)
    _assert_same(alone, _both(logs, labels))


@given(scale=st.sampled_from([0.3, 1.0, 2.5]), **CASES)
@settings(max_examples=100, deadline=None)
def test_the_nll_of_logs_is_that_of_dense_probabilities(make_pool, kind, seed, shape, scale):
    logs, labels = make_pool(kind, seed, shape)
    table, weights = _both(logs, labels).of("logs"), random_weights(seed, shape[0])
    dense = metrics.pooled(logs, Weighting(weights, "logs", scale))
    found = measures.nll(table, weights, scale)
    assert found == pytest.approx(metrics.nll(dense, labels), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_nll_of_many_classes_is_near_that_of_dense_probabilities(dtype):
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 300, 400)
    logits = 2 * rng.normal(size=(400, 300)) + rng.normal(size=(3, 400, 300))
    logits[:, np.arange(400), labels] += 6
    logs = (logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))).astype(dtype)
    weights = np.array([100_000, 37_000, 50_000])
    table = _both(logs, labels).of("logs")
    assert table.likely is not None
    assert NUM_LIKELIEST < table.likely.steps.shape[2] < 30
    assert table.likely.class_counts.sum() == 300
    dense = metrics.pooled(logs, Weighting(weights, "logs", 1.3))
    assert measures.nll(table, weights, 1.3) == pytest.approx(metrics.nll(dense, labels), abs=0.01)
    np.testing.assert_array_equal(
        table.is_error(weights, 5),
        metrics.is_top_k_error(metrics.scores(logs, Weighting(weights, "logs")), labels, 5),
    )


@given(**CASES)
@settings(max_examples=40, deadline=None)
def test_what_searches_compare_is_the_same_from_one_weight_and_from_all(
    make_pool, kind, seed, shape
):
    logs, labels = make_pool(kind, seed, shape)
    table, weights = _both(logs, labels).of("logs"), random_weights(seed, shape[0])
    member = seed % shape[0]
    tried = np.where(np.arange(shape[0]) == member, 40_000, weights)
    (found,) = nlls(table, weights, member, [40_000])
    assert found == pytest.approx(measures.search_nll(table, tried), rel=1e-9)


def test_integers_of_logs_stay_exact_for_as_many_members_as_is_said():
    for members in (1, 41, 63, 64, 200, 1000):
        point = FixedPoint.of(members, "logs")
        span = (LOG_TOLERANCE - LOG_FLOOR) * 2.0**point.bits
        assert span < 2**31
        assert largest_total(members, "logs") >= 100_000 * members
        assert (span + 1) * largest_total(members, "logs") < 2**52
    assert fraction_bits(63, "logs") == MAX_LOG_BITS > fraction_bits(64, "logs")


def test_41_members_at_full_weight_tie_exactly_where_every_extreme_is_planted():
    rng = np.random.default_rng(0)
    logs = rng.choice([0.0, -np.inf, LOG_FLOOR, -1e-3, 0.009], (41, 200, 6)).astype(np.float32)
    labels, weights = rng.integers(0, 6, 200), np.full(41, 100_000)
    table = _both(logs, labels).of("logs")
    for k in (1, 3, 5):
        expected = _is_error(logs, labels, weights, k)
        np.testing.assert_array_equal(table.is_error(weights, k), expected)
    with pytest.raises(ConfigError, match="are exact up to"):
        table.is_error(weights * 2, 1)


def test_minus_infinity_counts_as_the_floor_and_nan_breaks_the_row():
    logs = np.log(np.array([[[0.5, 0.5], [0.5, 0.5]], [[1.0, 2.0**-40], [0.9, 0.1]]]))
    logs[1, 0, 1] = -np.inf
    logs[1, 1, 1] = np.nan
    table = _both(logs, np.array([1, 0])).of("logs")
    assert table.is_error(np.array([100_000, 1000]), 1).tolist() == [True, True]
    assert table.is_error(np.array([100_000, 0]), 1).tolist() == [True, False]
    assert measures.losses(table, np.array([0, 100_000])).tolist() == pytest.approx(
        [-LOG_FLOOR, -LOG_FLOOR], abs=1e-3
    )


def test_views_of_a_table_keep_both_means(make_pool):
    logs, labels = make_pool("random", 0, (4, 50, 6))
    table, counts = _both(logs, labels), np.arange(50) % 3
    weights = np.array([100_000, 30_000])
    selected = table.select([2, 0])
    expected = _both(logs[[2, 0]], labels)
    assert selected.of("logs").errors(weights, 1) == expected.of("logs").errors(weights, 1)
    assert measures.nll(selected.of("logs"), weights) == measures.nll(expected.of("logs"), weights)
    counted = table.reweighted(counts).of("logs")
    wrong = table.of("logs").is_error(np.full(4, 1000), 1)
    assert counted.errors(np.full(4, 1000), 1) == (wrong * counts).sum()
    joined = append_images(_both(logs[:, :20], labels[:20]), _both(logs[:, 20:], labels[20:]))
    _assert_same(joined.of("logs"), table.of("logs"))


def test_a_mean_that_the_table_was_not_built_for_is_refused(make_pool):
    logs, labels = make_pool("random", 0, (2, 20, 4))
    alone = from_columns({"a": logs[0], "b": logs[1]}, labels)
    assert alone.of("probabilities") is alone
    with pytest.raises(ConfigError, match=r"not of logs. Build it with combines"):
        alone.of("logs")


def test_a_temperature_is_told_from_a_table_of_probabilities():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 3000)
    logits = rng.normal(size=(3000, 5))
    logits[np.arange(3000), labels] += 1.5
    logits = 2 * logits  # they are too sure by some factor; twice as sure is twice that factor
    columns = {}
    for name, factor in (("mild", 1.0), ("sure", 2.5)):
        logs = logits * factor
        columns[name] = logs - np.log(np.exp(logs).sum(axis=1, keepdims=True))
    table = from_columns(columns, labels)
    mild, sure = (measures.temperature(table, member) for member in range(2))
    assert sure / mild == pytest.approx(2.5, rel=0.02)
