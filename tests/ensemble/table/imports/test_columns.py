"""The part that each column of a file plays, by its name and content."""

import numpy as np
import pytest

from ensemble.errors import DataError
from ensemble.table.imports.columns import Column, assign_parts


def column(name: str, *values: object) -> Column:
    return Column(name, np.array(values))


SCORES = [column("ant", 0.25, 0.5), column("bee", 0.75, 0.5)]


@pytest.mark.parametrize("name", ["image_id", "ID", "File Name", "img", "photograph"])
def test_ids_are_found_by_name_or_as_text_that_is_unique(name: str) -> None:
    parts = assign_parts([*SCORES, column(name, "i0", "i1")])
    assert parts.ids is not None
    assert parts.ids.name == name
    assert parts.scores == tuple(SCORES)


def test_an_index_that_counts_rows_is_ignored_and_one_that_was_shuffled_is_the_ids() -> None:
    counted = assign_parts([column("", "0", "1"), *SCORES])
    assert (counted.ids, counted.ignored) == (None, ("the column ''",))
    shuffled = assign_parts([column("Unnamed: 0", "7", "3"), *SCORES])
    assert shuffled.ids is not None
    assert shuffled.ids.texts().tolist() == ["7", "3"]


def test_what_names_no_class_is_ignored_and_said() -> None:
    others = [
        column("fold", 1, 1),
        column("Predicted Class", "ant", "ant"),
        column("note", "x", "x"),
    ]
    parts = assign_parts([*SCORES, *others])
    assert parts.scores == tuple(SCORES)
    assert parts.ignored == tuple(f"the column {other.name!r}" for other in others)
    as_class = assign_parts([*SCORES, others[0]], ["ant", "bee", "fold"])
    assert as_class.ignored == ()
    assert len(as_class.scores) == 3


def test_a_class_called_like_a_label_stays_a_class() -> None:
    letters = [column("x", 0.25, 0.5), column("y", 0.75, 0.5)]
    assert assign_parts(letters).scores == tuple(letters)
    assert assign_parts([*SCORES, column("y", 0, 1)]).labels[0].name == "y"


def test_numbers_with_a_cell_that_is_none_are_refused_and_not_ignored() -> None:
    broken = column("bee", "0.5", "0.1", "n/a", "0.2")
    with pytest.raises(DataError, match=r"'bee' holds numbers, and in row 2 .* 'n/a'. Mend it"):
        assign_parts([column("ant", 1, 2, 3, 4), broken])
