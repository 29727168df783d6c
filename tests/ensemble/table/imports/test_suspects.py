"""Scores that are something else: the truth, ids, labels, sigmoids."""

import numpy as np
import pytest

from ensemble.errors import DataError
from ensemble.images.index import ImageIndex
from ensemble.table.imported import ImportedPredictions
from ensemble.table.imports.suspects import examine

LABELS = np.arange(30) % 3
INDEX = ImageIndex("x", np.array([f"i{n}" for n in range(30)]), LABELS, ("ant", "bee", "cat"))
LOGITS = np.random.default_rng(0).normal(size=(30, 3)) * 5


def logits(*columns: np.ndarray) -> ImportedPredictions:
    return ImportedPredictions("m", np.column_stack(columns).astype(np.float64), "logits")


def test_labels_as_rows_are_the_truth_and_votes_are_not() -> None:
    truth = ImportedPredictions("m", np.eye(3)[LABELS], "probabilities")
    assert examine(truth, (0, 1, 2), INDEX).is_truth
    votes = ImportedPredictions("m", np.eye(3)[np.roll(LABELS, 1)], "probabilities")
    assert not examine(votes, (0, 1, 2), INDEX).is_truth
    sure = ImportedPredictions("m", np.eye(3)[LABELS] * 0.97 + 0.01, "probabilities")
    assert not examine(sure, (0, 1, 2), INDEX).is_truth


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (LABELS, "output 3 .* it holds the labels"),
        (np.arange(30), "output 3 .* it holds whole numbers that all differ"),
        (np.random.default_rng(1).permutation(30) + 500, "it holds whole numbers that all differ"),
    ],
)
def test_a_column_of_labels_or_ids_is_refused(column: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        examine(logits(LOGITS, column), (0, 1, 2, None), INDEX)


def test_answers_are_classes_and_not_outputs() -> None:
    assert examine(logits(LOGITS), (2, 0, 1), INDEX).answers.tolist() == [
        (2, 0, 1)[output] for output in LOGITS.argmax(axis=1)
    ]
    top = ImportedPredictions(
        "m", np.full((30, 2), 0.4), "probabilities", np.array([[1, 0], [-1, 2], [2, -1]] * 10)
    )
    assert examine(top, (None, 1, 0), INDEX).answers.tolist() == [1, 0, 0] * 10


def test_scores_between_0_and_1_that_are_taken_for_logits_are_noted() -> None:
    sigmoid = 1 / (1 + np.exp(-LOGITS))
    (note,) = examine(logits(sigmoid), (0, 1, 2), INDEX).notes
    assert "every score lies between 0 and 1, as after a sigmoid" in note
    assert examine(logits(LOGITS), (0, 1, 2), INDEX).notes == ()
