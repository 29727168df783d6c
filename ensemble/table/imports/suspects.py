"""What imported predictions may be instead: the truth, ids, features, or what went through a sigmoid."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from ensemble.errors import DataError
from ensemble.images.index import ImageIndex
from ensemble.table.imported import ImportedPredictions
from ensemble.table.imports.class_files import ClassMap
from ensemble.table.imports.labels import is_one_hot

# Below this number of images whole numbers may differ from each other by chance.
_MIN_IMAGES = 10
_CHUNK_IMAGES = 4096


@dataclass(frozen=True)
class Verdict:
    """What was noticed about a member's scores.

    Attributes:
        answers: Class with the highest score of each image; -1 where that is no class.
        is_truth: Whether they are the labels themselves, as one-hot rows.
        notes: What a user should look at, in words.
    """

    answers: Int[np.ndarray, "image"]
    is_truth: bool
    notes: tuple[str, ...]


def examine(member: ImportedPredictions, class_map: ClassMap, index: ImageIndex) -> Verdict:
    """Compare a member's scores with the labels.

    Args:
        member: The predictions, in the order of the index.
        class_map: Class of each output.
        index: The images.

    Raises:
        DataError: A column holds labels, ids or the numbers of the rows.
    """
    if member.top is None:
        _refuse_strays(member, index.labels)
    answers = _answer(member, class_map)
    is_right = bool((answers == index.labels).all())
    is_truth = member.top is None and is_right and is_one_hot(member.scores)
    return Verdict(answers, is_truth, tuple(_form_notes(member)))


def _refuse_strays(member: ImportedPredictions, labels: Int[np.ndarray, "image"]) -> None:
    scores = member.scores
    if len(scores) < _MIN_IMAGES or member.form == "probabilities":
        return
    first = scores[:_MIN_IMAGES]
    suspects = np.flatnonzero((first % 1 == 0).all(axis=0))
    for output in suspects.tolist():
        column = scores[:, output]
        if np.array_equal(column, labels) and labels.any():
            reason = "it holds the labels"
        elif not (column % 1).any() and len(np.unique(column)) == len(column):
            reason = "it holds whole numbers that all differ, as ids and numbers of rows do"
        else:
            continue
        name = output if member.outputs is None else repr(member.outputs[output])
        raise DataError(
            f"{member.name}: output {name} (counted from 0) is no class: {reason}. Remove the column."
        )


def _answer(member: ImportedPredictions, class_map: ClassMap) -> Int[np.ndarray, "image"]:
    """Give the class with the highest score; -1 where that output is no class."""
    classes = np.array([-1 if c is None else c for c in class_map], np.int64)
    if member.top is not None:
        best = np.where(member.top >= 0, member.scores, -1).argmax(axis=1)
        output = member.top[np.arange(len(best)), best]
        return np.where(output >= 0, classes[np.maximum(output, 0)], -1)
    ours = np.flatnonzero(classes >= 0)
    parts = [
        member.scores[start : start + _CHUNK_IMAGES][:, ours].argmax(axis=1)
        for start in range(0, len(member.scores), _CHUNK_IMAGES)
    ]
    return np.asarray(classes[ours[np.concatenate(parts)]])


def _form_notes(member: ImportedPredictions) -> list[str]:
    scores = member.scores
    if member.form == "logits" and scores.shape[1] > 1 and 0 <= scores.min() <= scores.max() <= 1:
        return [
            f"{member.name}: every score lies between 0 and 1, as after a sigmoid, and was taken for a "
            "logit. If it is the output of a sigmoid, give what went into it"
        ]
    return []
