"""Outputs and labels are matched with classes by name; numbers only where they can mean one thing."""

import numpy as np
import pytest

from ensemble.errors import DataError
from ensemble.table.imported import ImportedPredictions
from ensemble.table.imports.class_files import MAX_CLASSES
from ensemble.table.imports.classes import resolve_classes, strip_common
from ensemble.table.imports.labels import Labels, resolve_labels


def dense(*outputs: str, name: str = "m", width: int = 3) -> ImportedPredictions:
    width = len(outputs) or width
    scores = np.full((2, width), 1 / width)
    return ImportedPredictions(name, scores, "probabilities", outputs=outputs or None)


def labels(*values: object) -> Labels:
    return Labels("labels", np.array(values))


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        (("cat", "bee", "ant"), (2, 1, 0)),
        (("prob_cat", "prob_bee", "prob_ant"), (2, 1, 0)),
        (("2", "0", "1"), (2, 0, 1)),
        (("class_2", "class_0", "class_1"), (2, 0, 1)),
        (("3", "1", "2"), (2, 0, 1)),
        (("p3", "p1", "p2"), (2, 0, 1)),
        (("ant", "cat"), (0, 2)),
        (("ant", "other", "bee", "cat"), (0, None, 1, 2)),
        ((), (0, 1, 2)),
    ],
)
def test_outputs_are_matched_with_listed_classes(
    outputs: tuple[str, ...], expected: tuple[int | None, ...]
) -> None:
    classes = resolve_classes([dense(*outputs)], [labels(0, 1)], ["ant", "bee", "cat"], None)
    assert classes.maps == (expected,)


def test_outputs_sorted_as_text_get_the_classes_that_they_name() -> None:
    outputs = sorted(map(str, range(12)))
    classes = resolve_classes([dense(*outputs)], [labels(0, 11)], None, None)
    assert classes.names == tuple(map(str, range(12)))
    assert classes.maps == (tuple(map(int, outputs)),)


@pytest.mark.parametrize("values", [("ant", "cat"), (0, 2)])
def test_columns_in_alphabetical_order_name_the_classes(values: tuple[object, ...]) -> None:
    classes = resolve_classes([dense("ant", "bee", "cat")], [labels(*values)], None, None)
    assert classes.names == ("ant", "bee", "cat")
    assert resolve_labels(labels(*values), classes.names, None).tolist() == [0, 2]


def test_names_in_another_order_need_labels_by_name_or_a_list() -> None:
    members = [dense("cat", "ant", "bee"), dense("bee", "cat", "ant", name="n")]
    by_name = resolve_classes(members, [labels("ant", "cat")], None, None)
    assert by_name.names == ("cat", "ant", "bee")
    assert by_name.maps == ((0, 1, 2), (2, 0, 1))
    with pytest.raises(DataError, match=r"'cat', 'ant', 'bee'.* Give --classes FILE\.json"):
        resolve_classes(members[:1], [labels(0, 1)], None, None)
    with pytest.raises(DataError, match="nothing says which name has which number"):
        resolve_classes([members[0], dense()], [labels("ant", "cat")], None, None)


@pytest.mark.parametrize(
    ("values", "names", "expected"),
    [
        (("bee", "ant"), ("ant", "bee"), [1, 0]),
        ((1, 0), ("ant", "bee"), [1, 0]),
        ((3, 1), ("1", "2", "3"), [2, 0]),
        ((2, 0), ("1", "2", "3"), [2, 0]),
        ((7, 3), ("3", "5", "7"), [2, 0]),
    ],
)
def test_labels_are_names_of_classes_or_their_numbers(
    values: tuple[object, ...], names: tuple[str, ...], expected: list[int]
) -> None:
    assert resolve_labels(labels(*values), names, None).tolist() == expected


def test_labels_that_can_be_read_in_two_ways_are_refused_until_the_first_is_said() -> None:
    with pytest.raises(DataError, match="can be numbers of classes from 0, or their names"):
        resolve_labels(labels(1, 2), ("1", "2", "3"), None)
    assert resolve_labels(labels(1, 2), ("1", "2", "3"), 1).tolist() == [0, 1]
    assert resolve_labels(labels(1, 2), ("1", "2", "3"), 0).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((1, 3), "say --first-label 1"),
        ((-1, 2), "Is -1 an image without a label"),
        ((0, 10**12), "go from 0 to 1000000000000, and there are 3 classes"),
        (("ant", "owl"), "the label 'owl' is no class; the classes are 'ant', 'bee', 'cat'"),
    ],
)
def test_labels_that_are_no_class_are_refused(values: tuple[object, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        resolve_labels(labels(*values), ("ant", "bee", "cat"), None)


def test_what_cannot_be_matched_is_refused() -> None:
    with pytest.raises(DataError, match=r"labels are names .* Give --classes"):
        resolve_classes([dense()], [labels("ant", "bee")], None, None)
    with pytest.raises(DataError, match=r"'Ant'.* have no output, such as 'ant'"):
        resolve_classes([dense("Ant", "bee")], [labels(0, 1)], ["ant", "bee"], None)
    with pytest.raises(DataError, match="2 images and 4 outputs; expected 3 outputs"):
        resolve_classes([dense(width=4)], [labels(0, 1)], ["ant", "bee", "cat"], None)
    with pytest.raises(DataError, match="different numbers of outputs: m 3, n 16"):
        resolve_classes([dense(), dense(name="n", width=16)], [labels(0, 1)], None, None)
    top = ImportedPredictions("t", np.ones((1, 1)), "probabilities", np.array([[MAX_CLASSES]]))
    with pytest.raises(DataError, match=r"a class has the number 100000.*Give --classes"):
        resolve_classes([top], [labels(0, 1)], None, None)


def test_a_common_beginning_ends_at_a_separator_or_a_number() -> None:
    assert strip_common(("prob_cat", "prob_cow")) == ("cat", "cow")
    assert strip_common(("cat", "cow")) == ("cat", "cow")
    assert strip_common(("p10", "p11", "p12")) == ("10", "11", "12")
    assert strip_common(("logit 1", "logit 2")) == ("1", "2")
