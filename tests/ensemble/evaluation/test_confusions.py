import numpy as np

from ensemble.evaluation.confusions import Confusion, list_confusions
from ensemble.evaluation.outcome import Outcome


def outcome_of(labels: np.ndarray, answers: np.ndarray, confidences: np.ndarray) -> Outcome:
    return Outcome((labels != answers).astype(np.int64), answers, confidences, confidences)


def test_confusions_are_the_counts_of_wrong_answers_from_the_most_frequent() -> None:
    rng = np.random.default_rng(3)
    labels, answers = rng.integers(0, 4, 300), rng.integers(0, 4, 300)
    confusions = list_confusions(outcome_of(labels, answers, np.ones(300)), labels, 100)
    assert sum(confusion.images for confusion in confusions) == (labels != answers).sum()
    for confusion in confusions:
        pairs = (labels == confusion.label) & (answers == confusion.answer)
        assert confusion.label != confusion.answer
        assert confusion.images == pairs.sum()
    counts = [confusion.images for confusion in confusions]
    assert counts == sorted(counts, reverse=True)


def test_no_more_confusions_are_listed_than_asked_for_and_none_without_an_error() -> None:
    labels = np.array([0, 1, 2, 2])
    answers = np.array([1, 2, 0, 0])
    outcome = outcome_of(labels, answers, np.ones(4))
    assert list_confusions(outcome, labels, 1) == (Confusion(2, 0, 2),)
    assert list_confusions(outcome_of(labels, labels, np.ones(4)), labels, 5) == ()


def test_an_answer_that_is_no_number_confuses_nothing() -> None:
    labels, answers = np.array([1, 1]), np.array([0, 0])
    outcome = outcome_of(labels, answers, np.array([np.nan, 0.5]))
    assert list_confusions(outcome, labels, 5) == (Confusion(1, 0, 1),)
