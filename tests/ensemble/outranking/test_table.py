import weakref
from functools import reduce
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.errors import ConfigError, EmptySplitError, ShapeError, TableError
from ensemble.evaluation import metrics
from ensemble.outranking import measures
from ensemble.outranking.box import recall
from ensemble.outranking.boxed import box_table
from ensemble.outranking.builder import OutrankingBuilder, from_columns
from ensemble.outranking.extend import append_images
from ensemble.outranking.fixed_point import MAX_BITS, WEIGHT_UNITS
from ensemble.outranking.one_weight import sweep
from ensemble.outranking.pairs import Pairs, bounds
from ensemble.outranking.sweep import error_curve

from ..pools import cases, random_weights

CASES = cases((1, 5), (1, 30), (2, 12))


def _table(logs, labels, **options):
    columns = {f"m{i}": column for i, column in enumerate(logs)}
    return from_columns(columns, labels, **options)


def _assert_same(a, b):
    for name, value in vars(a).items():
        if isinstance(value, np.ndarray) and name in a.__dataclass_fields__:
            assert value.dtype == getattr(b, name).dtype
            assert value.tobytes() == getattr(b, name).tobytes(), name


@given(**CASES)
@settings(max_examples=200, deadline=None)
def test_errors_equal_brute_force_image_by_image(make_pool, brute_force, kind, seed, shape):
    logs, labels = make_pool(kind, seed, shape)
    table, weights = _table(logs, labels), random_weights(seed, shape[0])
    for k in range(1, min(11, shape[2])):
        expected = brute_force(logs, labels, weights, k)
        np.testing.assert_array_equal(table.is_error(weights, k), expected)
        assert table.errors(weights, k) == expected.sum()


@given(**CASES)
@settings(max_examples=100, deadline=None)
def test_dense_average_agrees_image_by_image(make_pool, brute_force, kind, seed, shape):
    logs, labels = make_pool(kind, seed, shape)
    table, weights = _table(logs, labels), random_weights(seed, shape[0])
    dense = metrics.average(logs, weights)
    for k in range(1, min(11, shape[2])):
        expected = brute_force(logs, labels, weights, k)
        np.testing.assert_array_equal(metrics.is_top_k_error(dense, labels, k), expected)
    assert measures.nll(table, weights) == pytest.approx(metrics.nll(dense, labels), rel=1e-12)
    assert measures.num_floored(table, weights) == metrics.num_floored(dense, labels)


@given(**CASES)
@settings(max_examples=60, deadline=None)
def test_sweep_equals_101_brute_forces(make_pool, brute_force, kind, seed, shape):
    logs, labels = make_pool(kind, seed, shape)
    table, weights = _table(logs, labels), random_weights(seed, shape[0])
    rng = np.random.default_rng(seed)
    member, k = int(rng.integers(shape[0])), int(rng.integers(1, shape[2]))
    image_counts = rng.integers(0, 3, size=shape[1])
    image_counts[0] = 1
    others = np.where(np.arange(shape[0]) == member, 0, weights)
    if not others.any():
        return
    wrong = np.stack(
        [
            brute_force(
                logs, labels, np.where(np.arange(shape[0]) == member, weight * 1000, others), k
            )
            for weight in range(101)
        ]
    )
    np.testing.assert_array_equal(sweep(table, weights, member, k), wrong.sum(axis=1))
    np.testing.assert_array_equal(
        sweep(table.reweighted(image_counts), weights, member, k), wrong @ image_counts
    )


@given(**CASES)
@settings(max_examples=100, deadline=None)
def test_boxed_table_agrees_with_the_full_table(make_pool, kind, seed, shape):
    logs, labels = make_pool(kind, seed, shape)
    table, weights = _table(logs, labels), random_weights(seed, shape[0])
    anchor = seed % shape[0]
    weights[anchor] = 100_000
    for k in range(1, min(11, shape[2])):
        boxed = box_table(table, anchor, k)
        assert boxed.num_pairs <= table.num_pairs
        np.testing.assert_array_equal(boxed.is_error(weights, k), table.is_error(weights, k))
        assert measures.num_ties(boxed, weights, k) == measures.num_ties(table, weights, k)
        for member in set(range(shape[0])) - {anchor}:
            np.testing.assert_array_equal(
                sweep(boxed, weights, member, k), sweep(table, weights, member, k)
            )


def test_a_sweep_of_many_pairs_is_shared_by_threads_and_equals_brute_force():
    rng = np.random.default_rng(0)
    num_pairs = rng.integers(1, 400, size=4000)
    images = np.repeat(np.arange(len(num_pairs), dtype=np.int32), num_pairs)
    slope = rng.integers(-3, 4, size=len(images)).astype(np.int32)
    start = rng.integers(-250_000, 250_000, size=len(images)) + rng.choice([-0.5, 0.5], len(images))
    certain = rng.integers(0, 200, size=len(num_pairs)).astype(np.int32)
    counts = rng.integers(0, 3, size=len(num_pairs))
    pairs = Pairs.of(bounds(num_pairs), certain)
    assert len(images) > 2**19
    for k in (1, 5, 150):
        expected = []
        for weight in range(0, WEIGHT_UNITS + 1, 10_000):
            above = np.bincount(images[start + slope * weight > 0], minlength=len(num_pairs))
            expected.append(counts[above + certain >= k].sum())
        np.testing.assert_array_equal(error_curve(start, slope, pairs, counts, k, 10), expected)


@given(cuts=st.lists(st.integers(0, 30), max_size=4), threads=st.integers(1, 3), **CASES)
@settings(max_examples=60, deadline=None)
def test_windows_give_the_table_of_one_shot(make_pool, kind, seed, shape, cuts, threads):
    logs, labels = make_pool(kind, seed, shape)
    builder = OutrankingBuilder([f"m{i}" for i in range(shape[0])], threads)
    bounds = [0, *sorted(min(cut, shape[1]) for cut in cuts), shape[1]]
    for first, last in pairwise(bounds):
        builder.add(logs[:, first:last], labels[first:last])
    _assert_same(builder.finish(), _table(logs, labels))


def _is_same(a, b):
    _assert_same(a, b)
    for name in ("likely", "logs"):
        assert (getattr(a, name) is None) == (getattr(b, name) is None)
        if getattr(a, name) is not None:
            _assert_same(getattr(a, name), getattr(b, name))


@given(
    cuts=st.lists(st.integers(0, 30), max_size=4),
    both=st.booleans(),
    is_piece=st.lists(st.booleans(), min_size=5, max_size=5),
    **CASES,
)
@settings(max_examples=100, deadline=None)
def test_pieces_made_elsewhere_give_the_table_of_one_process_bit_for_bit(
    make_pool, kind, seed, shape, cuts, both, is_piece
):
    logs, labels = make_pool(kind, seed, shape)
    names = [f"m{i}" for i in range(shape[0])]
    combines = ("probabilities", "logs") if both else ("probabilities",)
    builder = OutrankingBuilder(names, combines=combines)
    cut_at = sorted({min(cut, shape[1]) for cut in cuts} | {0, shape[1]})
    for (first, last), elsewhere in zip(pairwise(cut_at), is_piece, strict=False):
        rows = [column[first:last] for column in logs]
        if elsewhere:
            maker = OutrankingBuilder(names, combines=combines, first_image=first)
            maker.add(rows, labels[first:last])
            builder.append(maker.finish_piece())
        else:
            builder.add(rows, labels[first:last])
    _is_same(builder.finish(), _table(logs, labels, combines=combines))


def test_the_sample_of_likely_classes_does_not_depend_on_pieces():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(2, 1300, 3)).astype(np.float32)
    logs = scores - np.log(np.exp(scores).sum(axis=2, keepdims=True))
    labels = rng.integers(0, 3, 1300)
    builder = OutrankingBuilder(["m0", "m1"])
    for first in range(0, 1300, 130):
        maker = OutrankingBuilder(["m0", "m1"], first_image=first)
        maker.add(list(logs[:, first : first + 130]), labels[first : first + 130])
        builder.append(maker.finish_piece())
    _is_same(builder.finish(), _table(logs, labels))


def test_a_piece_of_other_images_or_classes_is_refused():
    logs = np.log(np.full((1, 2, 2), 0.5, np.float32))
    maker = OutrankingBuilder(["m"], first_image=5)
    maker.add(list(logs), np.zeros(2, int))
    with pytest.raises(
        ShapeError, match=r"begins at image 5 and has 2 classes; expected .* image 0"
    ):
        OutrankingBuilder(["m"]).append(maker.finish_piece())
    with pytest.raises(EmptySplitError, match="no image was added"):
        OutrankingBuilder(["m"], first_image=5).finish_piece()


def test_windows_of_another_dtype_are_not_rounded_to_that_of_the_first(make_pool):
    logs, labels = make_pool("double", 0, (3, 300, 7))
    builder = OutrankingBuilder(["m0", "m1", "m2"])
    parts = {np.float16: slice(0, 100), np.float64: slice(100, 200), np.float32: slice(200, 300)}
    tables = []
    for dtype, part in parts.items():
        builder.add(logs[:, part].astype(dtype), labels[part])
        tables.append(_table(logs[:, part].astype(dtype), labels[part]))
    _assert_same(builder.finish(), reduce(append_images, tables))


def test_members_of_different_dtypes_are_compared_without_rounding(make_pool, brute_force):
    logs, labels = make_pool("double", 1, (3, 300, 7))
    columns = [logs[0].astype(np.float16), logs[1].astype(np.float32), logs[2]]
    builder = OutrankingBuilder(["m0", "m1", "m2"])
    builder.add(columns, labels)
    weights = np.array([100_000, 37_000, 50_000])
    expected = brute_force(np.stack([c.astype(np.float64) for c in columns]), labels, weights, 2)
    np.testing.assert_array_equal(builder.finish().is_error(weights, 2), expected)


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(0, 4), st.integers(0, 2**32))
def test_marked_pairs_are_counted_in_every_row(num_pairs, num_rows, seed):
    marked = np.random.default_rng(seed).random((num_rows, sum(num_pairs))) < 0.5
    pairs = Pairs.of(bounds(np.array(num_pairs, int)), np.zeros(len(num_pairs), np.int32))
    images = np.repeat(np.arange(len(num_pairs)), num_pairs)
    expected = [np.bincount(images[row], minlength=len(num_pairs))[pairs.images] for row in marked]
    assert pairs.count(marked).tolist() == [row.tolist() for row in expected]


@given(**CASES)
@settings(max_examples=60, deadline=None)
def test_ranks_and_member_errors_are_those_of_the_single_members(make_pool, kind, seed, shape):
    logs, labels = make_pool(kind, seed, shape)
    table = _table(logs, labels)
    for member in range(shape[0]):
        only = np.where(np.arange(shape[0]) == member, 100, 0)
        dense = metrics.average(logs, only)
        np.testing.assert_array_equal(table.ranks[:, member], metrics.ranks(dense, labels))
        assert measures.member_errors(table, 1)[member] == table.errors(only, 1)
        assert measures.member_nll(table)[member] == pytest.approx(
            measures.nll(table, only), rel=1e-12
        )


@given(**CASES)
@settings(max_examples=60, deadline=None)
def test_num_ties_counts_outcomes_that_depend_on_the_order_of_equal_scores(
    make_pool, kind, seed, shape
):
    logs, labels = make_pool(kind, seed, shape)
    table, weights = _table(logs, labels), random_weights(seed, shape[0])
    dense = metrics.average(logs, weights)
    own = np.take_along_axis(dense, labels[:, None], axis=1)
    for k in range(1, shape[2]):
        above, level = (dense > own).sum(axis=1), (dense >= own).sum(axis=1) - 1
        expected = ((above < k) & (level >= k) & ~np.isnan(own[:, 0])).sum()
        assert measures.num_ties(table, weights, k) == expected


def test_blocks_of_many_classes_agree_with_brute_force(make_pool, brute_force):
    logs, labels = make_pool("random", 3, (3, 400, 1000))
    weights = np.array([100, 37, 5])
    for dtype in (np.float32, np.float16):
        table = _table(logs.astype(dtype), labels, threads=2)
        expected = brute_force(logs.astype(dtype), labels, weights, 5)
        np.testing.assert_array_equal(table.is_error(weights, 5), expected)


def test_more_than_41_members_keep_scores_exact(make_pool):
    logs, labels = make_pool("random", 5, (60, 20, 5))
    table = _table(logs, labels)
    weights = np.full(60, 100_000)
    assert table.bits < MAX_BITS
    assert np.abs(table.differences).sum(axis=0).max() * 100_000 < 2**52
    dense = metrics.average(logs, weights)
    np.testing.assert_array_equal(
        table.is_error(weights, 2), metrics.is_top_k_error(dense, labels, 2)
    )


def test_a_broken_row_is_a_miss_only_where_its_member_has_a_weight():
    logs = np.log(np.full((2, 2, 3), [0.8, 0.1, 0.1], dtype=np.float32))
    logs[1, 0, 2] = np.nan
    table = _table(logs, np.array([0, 0]))
    assert table.num_broken.tolist() == [0, 1]
    assert table.errors(np.array([100, 0]), 2) == 0
    assert table.errors(np.array([100, 1]), 2) == 1
    assert table.ranks.tolist() == [[0, 3], [0, 0]]


def test_a_broken_row_contests_no_pair_and_adds_nothing_to_one():
    logs = np.log(np.full((2, 2, 3), [0.6, 0.3, 0.1]))
    logs[1, 1] = np.log([0.3, 0.6, 0.1])
    logs[0, :, 2] = np.nan
    table = _table(logs, np.array([0, 0]))
    assert table.indptr.tolist() == [0, 0, 1]
    assert table.differences[0].tolist() == [0]
    assert table.differences[1, 0] > 0


def test_minus_infinity_is_a_probability_of_zero_and_not_a_broken_row():
    logs = np.array([[[0.0, -np.inf, -np.inf]]], dtype=np.float32)
    table = _table(logs, np.array([1]))
    assert table.num_broken.tolist() == [0]
    assert table.errors(np.array([100]), 1) == 1
    assert table.errors(np.array([100]), 2) == 0
    assert measures.num_ties(table, np.array([100]), 2) == 1
    assert measures.num_floored(table, np.array([100])) == 1


def test_the_table_is_read_only_and_leaves_its_input_alone(make_pool):
    logs, labels = make_pool("broken", 1, (2, 10, 4))
    logs.flags.writeable = labels.flags.writeable = False
    table = _table(logs, labels)
    with pytest.raises(ValueError, match="read-only"):
        table.differences[0, 0] = 1


def test_labels_of_the_caller_stay_writeable(make_pool):
    logs, labels = make_pool("random", 1, (2, 10, 4))
    _table(logs, labels.astype(np.int64))
    labels[0] = 1


@pytest.fixture
def table(make_pool):
    return _table(*make_pool("random", 0, (3, 20, 5)))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([100, -1, 0], "none may be negative"),
        ([0, 0, 0], "one must be positive"),
        ([4_200_000, 0, 0], "sum to 4200000"),
    ],
)
def test_weights_that_are_not_exact_are_refused(table, weights, message):
    with pytest.raises(ConfigError, match=message):
        table.errors(np.array(weights), 1)


def test_a_weight_for_each_member_is_needed(table):
    with pytest.raises(ShapeError, match="2 weights for 3 members"):
        table.errors(np.array([1, 2]), 1)


@pytest.mark.parametrize("k", [0, 5, 6])
def test_k_that_leaves_nothing_to_count_is_refused(table, k):
    with pytest.raises(ConfigError, match=f"k = {k} with 5 classes"):
        table.errors(np.array([100, 0, 0]), k)


def test_a_boxed_table_refuses_what_it_is_not_exact_for(table):
    boxed = box_table(table, 1, 2)
    with pytest.raises(ConfigError, match="outside Box"):
        boxed.errors(np.array([0, 99_000, 0]), 2)
    with pytest.raises(ConfigError, match="boxed for 2"):
        boxed.errors(np.array([0, 100_000, 0]), 1)
    with pytest.raises(ConfigError, match="boxed already"):
        box_table(boxed, 1, 2)
    with pytest.raises(ConfigError, match="outside Box"):
        sweep(boxed, np.array([50_000, 100_000, 0]), 1, 2)


def test_logits_are_refused_with_the_member():
    logs = np.zeros((2, 3, 4), dtype=np.float32)
    logs[1, 2, 3] = 5.0
    with pytest.raises(TableError, match=r"member number 1 has the value 5; .* not logits"):
        _table(logs, np.array([0, 1, 2]))


def test_labels_that_are_no_class_are_refused():
    with pytest.raises(TableError, match="labels run from 1 to 4; expected 0 to 3"):
        _table(np.zeros((1, 2, 4), np.float32), np.array([1, 4]))


def test_shapes_that_disagree_are_refused(shapes_unchecked):
    builder = OutrankingBuilder(["a", "b"])
    with pytest.raises(ShapeError, match=r"expected \(3, 4\), images and classes, for each of 2"):
        builder.add([np.zeros((3, 4), np.float32), np.zeros((2, 4), np.float32)], np.zeros(3, int))
    with pytest.raises(ShapeError, match="labels are float64"):
        builder.add([np.zeros((3, 4), np.float32)] * 2, np.zeros(3))
    builder.add([np.zeros((3, 4), np.float32)] * 2, np.zeros(3, int))
    with pytest.raises(ShapeError, match=r"expected \(3, 4\), images and classes, for each of 2"):
        builder.add([np.zeros((3, 5), np.float32)] * 2, np.zeros(3, int))


def test_members_must_differ_and_images_exist():
    with pytest.raises(TableError, match="all different"):
        OutrankingBuilder(["a", "a"])
    with pytest.raises(EmptySplitError, match="no image was added"):
        OutrankingBuilder(["a"]).finish()


def test_a_boxed_table_is_made_once_for_all_counts_and_goes_with_the_full_table() -> None:
    logs, labels = np.log(np.array([[[0.6, 0.4]], [[0.3, 0.7]]])), np.array([0])
    table = from_columns({"a": logs[0], "b": logs[1]}, labels)
    boxed = box_table(table, 0, 1)
    again = box_table(table.reweighted(np.array([2])), 0, 1)
    assert again.differences is boxed.differences
    pairs, box = weakref.ref(table.pairs), boxed.box
    assert box is not None
    assert recall(table.pairs, box) is not None
    del table
    assert pairs() is None


def test_selected_members_keep_their_scores(make_pool):
    table = _table(*make_pool("random", 0, (5, 300, 6)))
    part = table.select([3, 1])
    np.testing.assert_array_equal(
        part.is_error(np.array([100, 40]), 2), table.is_error(np.array([0, 40, 0, 100, 0]), 2)
    )
    with pytest.raises(ConfigError, match="the table is boxed"):
        box_table(table, 0, 1).select([0])


def test_counts_of_images_must_fit(make_pool, shapes_unchecked):
    table = _table(*make_pool("random", 0, (5, 300, 6)))
    with pytest.raises(ShapeError, match="2 counts for 300 images"):
        table.reweighted(np.array([1, 1]))
    with pytest.raises(EmptySplitError, match="no image counts"):
        table.reweighted(np.zeros(300, dtype=int))
