"""Arrays that are no scores of classes."""

from pathlib import Path

import numpy as np
import pytest

from ensemble.errors import DataError
from ensemble.table.imports.read import read_file

NO_SCORES = {
    "no column": (np.zeros((20, 0)), "has no column; expected one for each class"),
    "one column": (np.full((20, 1), 0.3), "has one column; expected one for each class"),
    "three axes": (np.zeros((4, 3, 2)), r"is of shape \[4, 3, 2\]"),
    "text": (np.array([["a", "b"]]), "expected numbers"),
}


@pytest.mark.parametrize("form", ["probabilities", "logits", "auto"])
@pytest.mark.parametrize(("array", "message"), NO_SCORES.values(), ids=NO_SCORES.keys())
def test_an_array_of_no_scores_is_one_message(
    tmp_path: Path, form: str, array: np.ndarray, message: str
) -> None:
    np.save(tmp_path / "m.npy", array)
    np.savez(tmp_path / "m.npz", m=array)
    for name in ("m.npy", "m.npz"):
        with pytest.raises(DataError, match=f"{message}|holds no array of"):
            read_file(tmp_path / name, form)
