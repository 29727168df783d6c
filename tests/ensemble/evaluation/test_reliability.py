import numpy as np
import pytest

from ensemble.evaluation.outcome import Outcome
from ensemble.evaluation.reliability import calibration_error, reliability


def outcome_at(confidences: np.ndarray, is_right: np.ndarray) -> Outcome:
    ranks = np.where(is_right, 0, 1)
    return Outcome(ranks, np.zeros(len(ranks), np.int64), confidences, confidences)


def test_every_image_is_in_the_bin_of_its_confidence() -> None:
    rng = np.random.default_rng(0)
    confidences, is_right = rng.uniform(0, 1, 500), rng.random(500) < 0.7
    bins = reliability(outcome_at(confidences, is_right), 10)
    assert sum(part.images for part in bins) == 500
    for part in bins:
        inside = (confidences > part.low) & (confidences <= part.high)
        assert part.images == inside.sum()
        assert part.confidence == pytest.approx(confidences[inside].mean())
        assert part.accuracy == pytest.approx(is_right[inside].mean())


def test_answers_as_sure_as_they_are_right_have_no_calibration_error() -> None:
    sure, half = np.ones(10), np.full(10, 0.5)
    is_right = np.concatenate([np.ones(10, bool), np.arange(10) % 2 == 0])
    bins = reliability(outcome_at(np.concatenate([sure, half]), is_right))
    assert calibration_error(bins) == pytest.approx(0)


def test_answers_that_are_sure_and_wrong_have_the_largest_calibration_error() -> None:
    bins = reliability(outcome_at(np.ones(8), np.zeros(8, bool)))
    assert (len(bins), calibration_error(bins)) == (1, 1)


def test_an_answer_that_is_no_number_is_in_no_bin() -> None:
    confidences = np.array([0.9, np.nan, 0.0])
    bins = reliability(outcome_at(confidences, np.array([True, False, False])))
    assert [part.images for part in bins] == [1, 1]
    assert reliability(outcome_at(confidences[1:2], np.array([False]))) == ()
    assert calibration_error(()) == 0
