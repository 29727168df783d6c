import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.errors import EmptySplitError
from ensemble.evaluation import metrics
from ensemble.evaluation.calibration import (
    apply_temperature,
    calibrate,
    calibrate_members,
)
from ensemble.evaluation.outcome import Outcome, evaluate
from ensemble.evaluation.reading import (
    build_outranking,
)
from ensemble.outranking.weighting import Weighting

from ..judged import NUM_IMAGES, WEIGHTS, Judged, images, same


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_outcome_is_brute_force_over_sorted_classes(count: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 4, size=(count, classes)) / 8  # many ties
    labels = rng.integers(0, classes, size=count)
    outcome = Outcome.of(rows, labels)
    order = [sorted(range(classes), key=lambda c, row=row: (-row[c], c)) for row in rows]
    positions = [o.index(label) for o, label in zip(order, labels, strict=True)]
    assert outcome.ranks.tolist() == positions
    assert outcome.answers.tolist() == [o[0] for o in order]
    assert outcome.is_wrong.tolist() == [position > 0 for position in positions]
    for k in range(1, classes):
        assert outcome.errors(k) == sum(position >= k for position in positions)
    if count:
        own = np.maximum(rows[np.arange(count), labels], 2.0**-30)
        assert outcome.nll == pytest.approx(metrics.nll(rows, labels))
        assert outcome.nll == pytest.approx(-np.log(own).mean(), rel=0.5)


def test_scores_decide_the_order_and_probabilities_the_loss() -> None:
    outcome = Outcome.of(np.array([[0.75, 0.25]]), np.array([1]), scores=np.array([[0.0, 5.0]]))
    assert outcome.ranks.tolist() == [0]
    assert outcome.answers.tolist() == [1]
    assert outcome.nll == pytest.approx(-np.log(0.25))


def test_row_that_is_no_number_is_an_error_of_the_largest_finite_loss() -> None:
    outcome = Outcome.of(np.full((1, 3), np.nan), np.array([0]))
    assert outcome.errors(2) == 1
    assert np.isfinite(outcome.nll)
    assert outcome.nll == metrics.nll(np.full((1, 3), np.nan), np.array([0]))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_joined_outcomes_are_those_of_all_images(cuts: list[int]) -> None:
    rng = np.random.default_rng(0)
    rows, labels = rng.random((sum(cuts), 3)), rng.integers(0, 3, size=sum(cuts))
    stops = np.cumsum(cuts)[:-1]
    parts = zip(np.split(rows, stops), np.split(labels, stops), strict=True)
    assert same(Outcome.join([Outcome.of(*part) for part in parts]), Outcome.of(rows, labels))


def test_evaluation_in_windows_is_that_in_one_piece(judged: Judged) -> None:
    table, members = judged.table, judged.members
    outcomes = evaluate(table, members, images(), {"ensemble": Weighting(WEIGHTS)})
    rows = [table.read(member.column, images().image_ids) for member in members]
    assert list(outcomes) == ["first", "second", "ensemble"]
    for name, weights in (("first", [100, 0]), ("second", [0, 100]), ("ensemble", WEIGHTS)):
        average = metrics.average(rows, np.array(weights))
        assert same(outcomes[name], Outcome.of(average, images().labels))


def test_members_are_averaged_at_their_temperatures_everywhere(judged: Judged) -> None:
    table, members = judged.table, judged.members
    whole = images()
    search, test = whole.take(np.arange(900)), whole.take(np.arange(900, NUM_IMAGES))
    calibrated = calibrate_members(table, members, search, seed=2)
    for member, before in zip(calibrated, members, strict=True):
        rows = table.read(before.column, search.image_ids)
        assert member.temperature == calibrate(rows, search.labels, 2).value != 1.0
        assert member.column == before.column
    rows = [
        apply_temperature(table.read(m.column, test.image_ids), m.temperature) for m in calibrated
    ]
    expected = Outcome.of(metrics.average(rows, WEIGHTS), test.labels)
    found = evaluate(table, calibrated, test, {"ensemble": Weighting(WEIGHTS)})
    assert same(found["ensemble"], expected)
    assert not same(
        evaluate(table, members, test, {"ensemble": Weighting(WEIGHTS)})["ensemble"], expected
    )
    outranking = build_outranking(table, calibrated, test)
    assert outranking.errors(WEIGHTS * 1000, 1) == expected.errors(1)


@pytest.mark.parametrize("count", [0, 1])
def test_no_temperature_is_fitted_on_fewer_than_two_images(judged: Judged, count: int) -> None:
    table, members = judged.table, judged.members
    search = images().take(np.arange(count))
    assert calibrate_members(table, members, search, 0) == members


def test_split_without_an_image_is_refused(judged: Judged) -> None:
    table, members = judged.table, judged.members
    with pytest.raises(EmptySplitError, match=r"no image to judge predictors on\. Expected"):
        evaluate(table, members, images(0), {})
