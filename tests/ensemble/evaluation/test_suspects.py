"""Members at chance and members with exchanged classes."""

import numpy as np
import pytest

from ensemble.evaluation.outcome import Outcome
from ensemble.evaluation.suspects import chance_p, describe_suspects, exchanged_classes

CLASSES = tuple(f"class {i}" for i in range(10))


def make_answers(labels: np.ndarray, error: float, seed: int, classes: int = 10) -> np.ndarray:
    rng = np.random.default_rng(seed)
    wrong = rng.random(len(labels)) < error
    return np.where(wrong, rng.integers(0, classes, len(labels)), labels)


def outcome(answers: np.ndarray, labels: np.ndarray) -> Outcome:
    return Outcome((answers != labels).astype(np.int64), answers, *2 * [np.full(len(labels), 0.5)])


@pytest.fixture
def labels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 10, 400)


def test_a_sound_member_is_no_suspect(labels: np.ndarray) -> None:
    for error in (0.0, 0.05, 0.5, 0.8):
        answers = make_answers(labels, error, 1)
        assert describe_suspects({"sound": outcome(answers, labels)}, labels, CLASSES) == ()


def test_a_member_at_chance_is_named_with_its_error(labels: np.ndarray) -> None:
    answers = make_answers(labels, 1.0, 2)
    (sentence,) = describe_suspects({"noise": outcome(answers, labels)}, labels, CLASSES)
    assert sentence.startswith(
        f"noise is at chance: it errs on {(answers != labels).mean():.1%} of 400"
    )


def test_answers_that_are_always_the_commonest_class_are_at_chance() -> None:
    labels = np.where(np.random.default_rng(3).random(500) < 0.95, 0, 1)
    always = np.zeros(500, np.int64)
    (sentence,) = describe_suspects({"lazy": outcome(always, labels)}, labels, CLASSES[:2])
    assert "lazy is at chance" in sentence
    assert chance_p(make_answers(labels, 0.1, 4, 2), labels, 2) < 1e-6


@pytest.mark.parametrize("pairs", [((3, 7),), ((0, 1), (2, 9))])
def test_two_exchanged_classes_are_named_and_no_others(
    labels: np.ndarray, pairs: tuple[tuple[int, int], ...]
) -> None:
    order = np.arange(10)
    for a, b in pairs:
        order[[a, b]] = order[[b, a]]
    answers = order[make_answers(labels, 0.1, 5)]
    np.testing.assert_array_equal(exchanged_classes(answers, labels, 10), order)
    (sentence,) = describe_suspects({"swapped": outcome(answers, labels)}, labels, CLASSES)
    assert "swapped has exchanged classes" in sentence
    for a, b in pairs:
        assert f"'class {a}' is read as 'class {b}'" in sentence


def test_classes_in_another_order_leave_nearly_all_wrong_and_are_told_from_chance(
    labels: np.ndarray,
) -> None:
    order = np.roll(np.arange(10), 1)
    answers = order[make_answers(labels, 0.05, 6)]
    (sentence,) = describe_suspects({"shifted": outcome(answers, labels)}, labels, CLASSES)
    after = (np.roll(np.arange(10), -1)[answers] != labels).mean()
    assert f"and on {after:.1%} once every answer is moved by +1" in sentence


def test_a_thousand_classes_of_ten_images_give_no_false_alarm() -> None:
    labels = np.repeat(np.arange(1000), 10)
    answers = make_answers(labels, 0.4, 7, 1000)
    names = tuple(map(str, range(1000)))
    assert describe_suspects({"sound": outcome(answers, labels)}, labels, names) == ()
    permuted = np.random.default_rng(8).permutation(1000)[answers]
    (sentence,) = describe_suspects({"permuted": outcome(permuted, labels)}, labels, names)
    assert "permuted has exchanged classes" in sentence
    assert "more" in sentence


def test_a_search_split_of_one_image_says_nothing() -> None:
    one = np.zeros(1, np.int64)
    assert describe_suspects({"any": outcome(one, one)}, one, CLASSES) == ()
