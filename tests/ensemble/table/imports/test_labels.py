"""Labels in every plain form are the same labels; all else is one message."""

import json
from pathlib import Path

import numpy as np
import pytest

from ensemble.errors import DataError
from ensemble.table.imports.label_files import read_labels
from ensemble.table.imports.labels import parse_labels

LABELS = np.array([2, 0, 1, 1])
NAMES = ["cat", "ant", "bee", "bee"]

FORMS = {
    "numbers": LABELS,
    "small numbers": LABELS.astype(np.uint8),
    "whole floats": LABELS.astype(np.float32),
    "half floats": LABELS.astype(np.float16),
    "a column": LABELS[:, None],
    "a column with more axes": LABELS[:, None, None],
    "one-hot": np.eye(3)[LABELS],
    "one-hot of booleans": np.eye(3, dtype=bool)[LABELS],
    "numbers as text": LABELS.astype(str),
    "floats as text": LABELS.astype(float).astype(str),
    "another byte order": LABELS.astype(">i4"),
}


@pytest.mark.parametrize("values", FORMS.values(), ids=FORMS.keys())
def test_every_form_of_labels_is_the_same_numbers(values: np.ndarray, tmp_path: Path) -> None:
    np.testing.assert_array_equal(parse_labels(values, "labels"), LABELS)
    np.save(tmp_path / "l.npy", values)
    np.testing.assert_array_equal(read_labels(tmp_path / "l.npy").values, LABELS)
    np.savez(tmp_path / "l.npz", values)
    np.testing.assert_array_equal(read_labels(tmp_path / "l.npz").values, LABELS)
    (tmp_path / "l.json").write_text("\ufeff" + json.dumps(values.tolist()), encoding="utf-8")
    np.testing.assert_array_equal(read_labels(tmp_path / "l.json").values, LABELS)


def test_names_stay_names() -> None:
    np.testing.assert_array_equal(
        parse_labels(np.array([["ant "], ["bee"]]), "labels"), ["ant", "bee"]
    )
    np.testing.assert_array_equal(parse_labels(np.array(["007", "1_0"]), "labels"), ["007", "1_0"])


WRONG = {
    "a fraction": (np.array([0, 1.5]), "the label 1.5 of row 1 is no whole number"),
    "no number": (np.array([0, np.nan]), "the label nan of row 1 is no whole number"),
    "rows of several ones": (np.array([[1, 1], [0, 1]]), "not one-hot"),
    "complex numbers": (np.array([1j]), "of the type complex128"),
    "nothing": (np.zeros(0), "are empty"),
    "a single number": (np.array(3), "expected one label for each"),
    "a name that is empty": (np.array(["ant", " "]), "row 1 is empty"),
    "a number too large": (np.array([0, 2**63], np.uint64), "too large for the number of a class"),
}


@pytest.mark.parametrize(("values", "message"), WRONG.values(), ids=WRONG.keys())
def test_labels_that_cannot_be_read_are_one_message(values: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_labels(values, "labels")
