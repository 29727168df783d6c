from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble.errors import ConfigError, EmptySplitError, ShapeError
from ensemble.evaluation.conformal import fit_conformal, judge_sets
from ensemble.evaluation.reliability import risk_coverage_area


def _made_up(num_images: int, seed: int, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of 12 classes, and labels that are drawn from sharper or blunter ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (num_images, 12))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (true.cumsum(axis=1) > rng.random((num_images, 1))).argmax(axis=1)
    said = np.exp(sharpness * logits)
    return said / said.sum(axis=1, keepdims=True), labels


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.97])
@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_sets_hold_the_label_as_often_as_promised_however_wrong_the_confidences(
    coverage: float, sharpness: float
) -> None:
    rates = []
    for seed in range(20):
        probabilities, labels = _made_up(3000, seed, sharpness)
        sets = fit_conformal(probabilities[:1500], labels[:1500], coverage)
        judged = judge_sets(sets, [(probabilities[1500:], labels[1500:])])
        rates.append(judged.coverage)
        rows = np.arange(1500)
        assert judged.coverage == sets.of(probabilities[1500:])[rows, labels[1500:]].mean()
    # The first class is always in, so that a high accuracy may cover more than was asked for.
    accuracy = np.mean(
        [
            (p.argmax(axis=1) == y).mean()
            for p, y in (_made_up(3000, s, sharpness) for s in range(20))
        ]
    )
    assert np.mean(rates) >= coverage - 0.006
    assert np.mean(rates) <= max(coverage, accuracy) + 0.01


def test_sets_are_smaller_where_answers_are_surer() -> None:
    probabilities, labels = _made_up(4000, 0)
    sets = fit_conformal(probabilities[:2000], labels[:2000], 0.9).of(probabilities[2000:])
    confidences = probabilities[2000:].max(axis=1)
    sizes = sets.sum(axis=1)
    assert sizes.min() >= 1
    assert sizes[confidences > 0.9].mean() < sizes[confidences < 0.5].mean() / 2


def test_the_classes_of_a_set_are_the_most_probable_ones() -> None:
    probabilities, labels = _made_up(400, 0)
    sets = fit_conformal(probabilities, labels, 0.9).of(probabilities)
    for row, chosen in zip(probabilities, sets, strict=True):
        assert row[chosen].min() >= row[~chosen].max(initial=0)


def test_sets_of_real_predictions_hold_the_label_on_held_out_halves(tiny_run: Any) -> None:
    splits, table = tiny_run.splits, tiny_run.table
    ids = [*splits.search.image_ids.tolist(), *splits.test.image_ids.tolist()]
    labels = np.concatenate([splits.search.labels, splits.test.labels])
    # The worse of two members: where more answers are right than is promised, so many are held.
    probabilities = min(
        (np.exp(table.read(member.column, ids)) for member in tiny_run.members),
        key=lambda rows: (rows.argmax(axis=1) == labels).mean(),
    )
    rates = []
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(len(ids))
        seen, unseen = order[: len(ids) // 2], order[len(ids) // 2 :]
        sets = fit_conformal(probabilities[seen], labels[seen], 0.9)
        rates.append(judge_sets(sets, [(probabilities[unseen], labels[unseen])]).coverage)
    # Of n images, sets hold 0.9 to 0.9 + 1 / (n + 1) in expectation.
    assert abs(np.mean(rates) - (0.9 + 0.5 / (len(ids) / 2 + 1))) < 0.02


def test_naive_sets_take_classes_until_their_probabilities_add_up() -> None:
    probabilities, labels = _made_up(300, 1, 2.0)
    judged = judge_sets(fit_conformal(probabilities, labels, 0.9), [(probabilities, labels)])
    sizes, hits = [], []
    for row, label in zip(probabilities, labels, strict=True):
        chosen, total = [], 0.0
        for index in np.argsort(-row, kind="stable"):
            if total >= 0.9:
                break
            chosen.append(index)
            total += row[index]
        sizes.append(len(chosen))
        hits.append(label in chosen)
    assert judged.naive_mean_size == pytest.approx(np.mean(sizes))
    assert judged.naive_coverage == pytest.approx(np.mean(hits))
    # Confidences that are too sure promise what they do not hold.
    assert judged.naive_coverage < 0.85 < 0.9 <= judged.coverage


def test_a_broken_row_counts_as_a_label_that_no_set_holds() -> None:
    probabilities, labels = _made_up(200, 0)
    probabilities[:40] = np.nan
    assert fit_conformal(probabilities, labels, 0.9).threshold == np.inf
    assert fit_conformal(probabilities, labels, 0.7).threshold < 2


def test_too_few_images_for_a_coverage_are_named_with_how_many_are_needed() -> None:
    probabilities, labels = _made_up(50, 0)
    with pytest.raises(ConfigError, match=r"50 images cannot promise .* Expected 99 images"):
        fit_conformal(probabilities, labels, 0.99)
    fit_conformal(*_made_up(99, 0), 0.99)


def test_bad_input_is_refused() -> None:
    probabilities, labels = _made_up(50, 0)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        fit_conformal(probabilities, labels, 1.0)
    with pytest.raises(ShapeError, match="49 labels"):
        fit_conformal(probabilities, labels[1:])
    with pytest.raises(EmptySplitError):
        fit_conformal(probabilities[:0], labels[:0])
    with pytest.raises(ShapeError):
        risk_coverage_area(np.ones(3), np.ones(2, dtype=bool))
    with pytest.raises(EmptySplitError):
        risk_coverage_area(np.ones(0), np.ones(0, dtype=bool))


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=40))
def test_risk_coverage_area_is_the_mean_risk_over_random_orders_of_equal_images(
    pairs: list[tuple[int, bool]],
) -> None:
    confidences = np.array([confidence for confidence, _ in pairs], dtype=float)
    is_wrong = np.array([wrong for _, wrong in pairs])
    total = risk = 0.0
    for place in range(1, len(pairs) + 1):
        surest = np.sort(confidences)[::-1][place - 1]
        above = confidences > surest
        equal = confidences == surest
        # In a random order, the errors among the equal ones come in proportion.
        wrong = is_wrong[above].sum() + is_wrong[equal].mean() * (place - above.sum())
        risk += wrong / place
        total += 1
    assert risk_coverage_area(confidences, is_wrong) == pytest.approx(risk / total)


def test_a_perfect_ranking_has_the_least_area() -> None:
    is_wrong = np.array([False] * 8 + [True] * 2)
    best = risk_coverage_area(-np.arange(10.0), is_wrong)
    assert best == pytest.approx((1 / 9 + 2 / 10) / 10)
    assert risk_coverage_area(np.ones(10), is_wrong) == pytest.approx(0.2)
    assert risk_coverage_area(np.arange(10.0), is_wrong) > 0.2
