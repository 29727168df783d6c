"""A table that grew is the table that was built at once."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.errors import ConfigError, ShapeError, TableError
from ensemble.outranking.boxed import box_table
from ensemble.outranking.builder import OutrankingBuilder, from_columns
from ensemble.outranking.extend import add_member, append_images
from ensemble.outranking.table import OutrankingTable

from ..pools import cases

CASES = cases((2, 5), (2, 30), (3, 15), without=("constant", "double"))


BOTH = ("probabilities", "logs")


def _table(columns, labels, combines=("probabilities",)):
    return from_columns({f"m{i}": c for i, c in enumerate(columns)}, labels, combines=combines)


def _assert_same(found, expected):
    assert found.member_names == expected.member_names
    assert (found.num_classes, found.bits) == (expected.num_classes, expected.bits)
    for field in dataclasses.fields(OutrankingTable):
        array = getattr(expected, field.name)
        if isinstance(array, np.ndarray):
            grown = getattr(found, field.name)
            assert grown.dtype == array.dtype, field.name
            np.testing.assert_array_equal(grown, array, err_msg=field.name)


@given(cut=st.integers(1, 29), **CASES)
@settings(max_examples=60, deadline=None)
def test_images_appended_give_the_table_of_one_shot(make_pool, kind, seed, shape, cut):
    columns, labels = make_pool(kind, seed, shape)
    cut = min(cut, len(labels) - 1)
    first = _table([column[:cut] for column in columns], labels[:cut])
    second = _table([column[cut:] for column in columns], labels[cut:])
    _assert_same(append_images(first, second), _table(columns, labels))


@given(**CASES)
@settings(max_examples=100, deadline=None)
def test_a_member_added_gives_the_table_of_one_shot(make_pool, kind, seed, shape):
    columns, labels = make_pool(kind, seed, shape)
    old, new = columns[:-1], columns[-1]
    table = _table(old, labels)
    grown = add_member(
        table, f"m{len(old)}", new, lambda images: [column[images] for column in old]
    )
    _assert_same(grown, _table(columns, labels))


@given(**CASES)
@settings(max_examples=100, deadline=None)
def test_a_member_added_to_both_means_gives_the_tables_of_one_shot(make_pool, kind, seed, shape):
    columns, labels = make_pool(kind, seed, shape)
    old, new = columns[:-1], columns[-1]
    table = _table(old, labels, BOTH)
    grown = add_member(
        table, f"m{len(old)}", new, lambda images: [column[images] for column in old]
    )
    expected = _table(columns, labels, BOTH)
    assert grown.likely is not None
    for combine in BOTH:
        _assert_same(grown.of(combine), expected.of(combine))
        for array in ("images", "steps", "class_counts"):
            found = getattr(grown.of(combine).likely, array)
            assert found.tobytes() == getattr(expected.likely, array).tobytes(), array


def test_a_member_added_to_classes_that_are_not_shown_gives_the_tables_of_one_shot(make_pool):
    columns, labels = make_pool("random", 1, (3, 300, 20))
    columns = columns - np.float32(0.5)  # what a row lacks to 1 is spread over 980 other classes

    def build(members):
        names = [f"m{i}" for i in range(len(members))]
        builder = OutrankingBuilder(names, 1, BOTH, num_classes=1000)
        builder.add(list(members), labels)
        return builder.finish()

    grown = add_member(
        build(columns[:2]), "m2", columns[2], lambda images: [c[images] for c in columns[:2]]
    )
    expected = build(columns)
    assert grown.likely.steps.tobytes() == expected.likely.steps.tobytes()
    _assert_same(grown.of("logs"), expected.of("logs"))


def test_old_columns_are_read_only_where_the_new_member_contests_something_new(make_pool):
    columns, labels = make_pool("random", 3, (4, 400, 900))
    table, asked = _table(columns[:3], labels), []

    def read_old(images):
        asked.extend(images.tolist())
        return [column[images] for column in columns[:3]]

    grown = add_member(table, "m3", columns[3], read_old)
    _assert_same(grown, _table(columns, labels))
    newly = np.flatnonzero(np.diff(grown.indptr) > np.diff(table.indptr))
    assert asked == newly.tolist()


def test_what_does_not_belong_together_is_refused(make_pool, shapes_unchecked):
    columns, labels = make_pool("random", 0, (3, 10, 5))
    table = _table(columns, labels)
    with pytest.raises(TableError, match="expected the same members in the same order"):
        append_images(table, _table(columns[:2], labels))
    with pytest.raises(TableError, match="a name may stand once only"):
        add_member(table, "m0", columns[0], lambda images: [])
    with pytest.raises(ConfigError, match="extend the full one"):
        append_images(box_table(table, 0, 1), table)
    with pytest.raises(ShapeError, match="for each of 1 members"):
        add_member(table, "m3", columns[0][:5], lambda images: [])
    with pytest.raises(ConfigError, match="extend the one of both means"):
        add_member(_table(columns, labels, BOTH).of("logs"), "m3", columns[0], lambda images: [])
    poor = _table(columns[:1], labels)
    with pytest.raises(ShapeError, match="the images asked for and all classes"):
        add_member(poor, "m3", columns[1], lambda images: [])
