from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.errors import EmptySplitError
from ensemble.evaluation import metrics
from ensemble.evaluation.calibration import (
    apply_temperature,
    at_temperature,
    calibrate,
    calibrate_members,
)
from ensemble.evaluation.outcome import Outcome, evaluate
from ensemble.evaluation.reading import (
    WINDOW_IMAGES,
    StreamingOutranking,
    build_outranking,
    read_windows,
)
from ensemble.images.index import ImageIndex
from ensemble.images.shard import BadImage
from ensemble.members.member import Member
from ensemble.outranking import measures
from ensemble.outranking.weighting import Weighting
from ensemble.subclassifiers.answers import (
    calibrate_answers,
    evaluate_routed,
    gather_evidence,
    within_cluster,
)
from ensemble.subclassifiers.gates import entropy
from ensemble.subclassifiers.route import FittedRouting, Routing, answer, is_routed, rank_scores
from ensemble.subclassifiers.settings import RoutingKind
from ensemble.table.block import LogitBlock
from ensemble.table.logit_table import LogitTable

MakeMember = Callable[..., Member]
MakeBlock = Callable[..., LogitBlock]

NUM_IMAGES = 2 * WINDOW_IMAGES + 57
CLUSTERS = ((0, 2), (1, 3))
WEIGHTS = np.array([70, 30])


def images(count: int = NUM_IMAGES) -> ImageIndex:
    image_ids = np.array([f"image-{i:05d}" for i in range(count)])
    labels = np.random.default_rng(0).integers(0, 4, size=count)
    return ImageIndex("made up", image_ids, labels, ("a", "b", "c", "d"))


@pytest.fixture(scope="module")
def members(make_member: MakeMember) -> tuple[Member, ...]:
    return tuple(make_member(name, 4) for name in ("first", "second"))


@pytest.fixture(scope="module")
def subclassifiers(make_member: MakeMember) -> tuple[Member, ...]:
    return tuple(
        make_member(f"sub {number}", 2, classes=classes) for number, classes in enumerate(CLUSTERS)
    )


@pytest.fixture(scope="module")
def table(
    tmp_path_factory: pytest.TempPathFactory,
    members: tuple[Member, ...],
    subclassifiers: tuple[Member, ...],
    make_block: MakeBlock,
) -> LogitTable:
    table = LogitTable(Path(tmp_path_factory.mktemp("evaluation")))
    image_ids = images().image_ids.tolist()
    for member in (*members, *subclassifiers):
        for start in range(0, NUM_IMAGES, 700):
            table.commit(member, make_block(member, image_ids[start : start + 700]))
    return table


def same(left: Outcome, right: Outcome) -> bool:
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in vars(left))


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


def test_windows_are_the_table_in_order(table: LogitTable, members: tuple[Member, ...]) -> None:
    found = list(read_windows(table, members, images()))
    assert [len(labels) for _, labels in found] == [WINDOW_IMAGES, WINDOW_IMAGES, 57]
    assert np.array_equal(np.concatenate([labels for _, labels in found]), images().labels)
    for number, member in enumerate(members):
        rows = np.concatenate([rows[number] for rows, _ in found])
        assert np.array_equal(rows, table.read(member.column, images().image_ids))


def test_evaluation_in_windows_is_that_in_one_piece(
    table: LogitTable, members: tuple[Member, ...]
) -> None:
    outcomes = evaluate(table, members, images(), {"ensemble": Weighting(WEIGHTS)})
    rows = [table.read(member.column, images().image_ids) for member in members]
    assert list(outcomes) == ["first", "second", "ensemble"]
    for name, weights in (("first", [100, 0]), ("second", [0, 100]), ("ensemble", WEIGHTS)):
        average = metrics.average(rows, np.array(weights))
        assert same(outcomes[name], Outcome.of(average, images().labels))


def test_outranking_table_counts_the_errors_of_the_evaluation(
    table: LogitTable, members: tuple[Member, ...]
) -> None:
    outranking = build_outranking(table, members, images())
    outcomes = evaluate(table, members, images(), {})
    for k in (1, 2):
        expected = [outcomes[member.name].errors(k) for member in members]
        assert measures.member_errors(outranking, k).tolist() == expected


@pytest.mark.parametrize("seed", [0, 1])
def test_outranking_table_built_while_blocks_arrive_is_that_of_one_shot(
    members: tuple[Member, ...], make_block: MakeBlock, tmp_path: Path, seed: int
) -> None:
    table, everything, bad = LogitTable(tmp_path), images(300), {"image-00005", "image-00299"}
    streaming = StreamingOutranking(table, members, everything, 64)
    shards = [everything.image_ids[first : first + 64].tolist() for first in range(0, 300, 64)]
    blocks = []
    for member in members:
        for shard in shards:
            block = make_block(member, [image for image in shard if image not in bad])
            reasons = tuple(BadImage(image, "no picture") for image in shard if image in bad)
            blocks.append((member, replace(block, bad=reasons)))
    for number in np.random.default_rng(seed).permutation(len(blocks)).tolist():
        table.commit(*blocks[number])
        streaming.read_landed()
    left = everything.take(np.flatnonzero([str(i) not in bad for i in everything.image_ids]))
    fewer = left.take(np.arange(100))
    resumed = StreamingOutranking(table, members, everything, 64)
    for found, wanted in ((streaming, left), (resumed, left), (streaming, fewer)):
        expected = build_outranking(table, members, wanted)
        outranking = found.finish(wanted)
        for name in ("labels", "indptr", "classes", "differences", "true_probabilities", "ranks"):
            assert np.array_equal(getattr(outranking, name), getattr(expected, name)), name


@pytest.mark.parametrize("kind", ["hard", "top2", "soft"])
@pytest.mark.parametrize("used", [(0, 1), (1,)])
def test_routed_evaluation_is_that_in_one_piece(
    table: LogitTable,
    members: tuple[Member, ...],
    subclassifiers: tuple[Member, ...],
    kind: RoutingKind,
    used: tuple[int, ...],
) -> None:
    image_ids = images().image_ids
    base = metrics.average([table.read(m.column, image_ids) for m in members], WEIGHTS)
    subs = {
        number: np.exp(table.read(m.column, image_ids).astype(np.float64))
        for number, m in enumerate(subclassifiers)
    }
    routing = Routing(CLUSTERS, used, float(np.median(entropy(base))), kind=kind)
    gate = is_routed(base, routing)
    fitted = FittedRouting(routing, {i: subclassifiers[i] for i in used}, Weighting(WEIGHTS))
    outcome, routed = evaluate_routed(table, members, images(), fitted)
    expected = Outcome.of(
        answer(base, subs, routing, gate),
        images().labels,
        rank_scores(base, subs, routing, gate),
    )
    assert np.array_equal(routed, gate)
    assert 0 < routed.sum() < NUM_IMAGES
    assert same(outcome, expected)


def test_shut_gate_leaves_the_ensemble_image_by_image(
    table: LogitTable, members: tuple[Member, ...], subclassifiers: tuple[Member, ...]
) -> None:
    fitted = FittedRouting(
        Routing(CLUSTERS, (0, 1)), dict(enumerate(subclassifiers)), Weighting(WEIGHTS)
    )
    outcome, routed = evaluate_routed(table, members, images(), fitted)
    assert not routed.any()
    assert same(
        outcome, evaluate(table, members, images(), {"ensemble": Weighting(WEIGHTS)})["ensemble"]
    )


def test_a_temperature_is_fitted_on_what_is_said_in_the_end_and_judged_elsewhere(
    table: LogitTable, members: tuple[Member, ...], subclassifiers: tuple[Member, ...]
) -> None:
    whole = images()
    search, test = whole.take(np.arange(900)), whole.take(np.arange(900, NUM_IMAGES))
    routing = Routing(CLUSTERS, (0, 1), 1.0)
    for fitted in (
        None,
        FittedRouting(routing, dict(enumerate(subclassifiers)), Weighting(WEIGHTS)),
    ):
        said = {}
        for name, part in (("search", search), ("test", test)):
            base = metrics.average([table.read(m.column, part.image_ids) for m in members], WEIGHTS)
            if fitted is not None:
                rows = [table.read(m.column, part.image_ids) for m in subclassifiers]
                subs = {i: np.exp(row.astype(np.float64)) for i, row in enumerate(rows)}
                base = answer(base, subs, routing, is_routed(base, routing))
            said[name] = base
        found = calibrate_answers(
            table, members, search, test, (Weighting(WEIGHTS), fitted), seed=3
        )
        assert found is not None
        assert found.temperature == calibrate(np.log(said["search"]), search.labels, 3)
        assert found.temperature.is_kept  # made-up networks are surer than they are right
        hot = at_temperature(said["test"], found.temperature.value)
        assert found.nll_before == pytest.approx(metrics.nll(said["test"], test.labels))
        assert found.nll_after == pytest.approx(metrics.nll(hot, test.labels))
        assert found.nll_after < found.nll_before


def test_members_are_averaged_at_their_temperatures_everywhere(
    table: LogitTable, members: tuple[Member, ...]
) -> None:
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
def test_no_temperature_is_fitted_on_fewer_than_two_images(
    table: LogitTable, members: tuple[Member, ...], count: int
) -> None:
    search = images().take(np.arange(count))
    assert calibrate_members(table, members, search, 0) == members
    assert (
        calibrate_answers(table, members, search, images(), (Weighting(WEIGHTS), None), 0) is None
    )


def test_evidence_is_the_weighted_average_and_what_each_sub_classifier_said(
    table: LogitTable, members: tuple[Member, ...], subclassifiers: tuple[Member, ...]
) -> None:
    one = {1: subclassifiers[1]}
    evidence = gather_evidence(table, members, images(), Weighting(WEIGHTS), CLUSTERS, one)
    ids = images().image_ids
    rows = [table.read(member.column, ids) for member in members]
    assert np.array_equal(evidence.base, metrics.average(rows, WEIGHTS))
    assert list(evidence.subs) == [1]
    np.testing.assert_allclose(evidence.subs[1], np.exp(table.read(one[1].column, ids)), rtol=1e-6)
    assert np.array_equal(evidence.labels, images().labels)
    with pytest.raises(EmptySplitError, match="no image to choose a gate on"):
        gather_evidence(table, members, images(0), Weighting(WEIGHTS), CLUSTERS, one)


@pytest.mark.parametrize("classes", [(0, 2), (3, 1), (2,), (0, 1, 2, 3)])
def test_accuracy_within_a_cluster_looks_at_its_images_and_classes_only(
    table: LogitTable, members: tuple[Member, ...], classes: tuple[int, ...]
) -> None:
    outcome = within_cluster(table, members[0], images(), classes)
    rows = table.read(members[0].column, images().image_ids)
    hits, losses = [], []
    for row, label in zip(rows.astype(np.float64), images().labels, strict=True):
        if label in classes:
            inside = {c: np.exp(row[c]) for c in classes}
            hits.append(max(classes, key=lambda c, inside=inside: inside[c]) == label)
            losses.append(-np.log(inside[label] / sum(inside.values())))
    assert (~outcome.is_wrong).tolist() == hits
    assert outcome.nll == pytest.approx(np.mean(losses))


def test_sub_classifier_is_judged_by_its_own_columns(
    table: LogitTable, subclassifiers: tuple[Member, ...]
) -> None:
    sub = subclassifiers[1]
    outcome = within_cluster(table, sub, images(), sub.classes)
    inside = np.isin(images().labels, sub.classes)
    rows = table.read(sub.column, images().image_ids)[inside]
    said = np.array(sub.classes)[rows.argmax(axis=1)]
    assert np.array_equal(outcome.is_wrong, said != images().labels[inside])


def test_cluster_without_an_image_has_an_empty_outcome(
    table: LogitTable, members: tuple[Member, ...]
) -> None:
    whole = images()
    without = whole.take(np.flatnonzero(whole.labels != 2))
    assert len(within_cluster(table, members[0], without, [2]).ranks) == 0


def test_split_without_an_image_is_refused(
    table: LogitTable, members: tuple[Member, ...], subclassifiers: tuple[Member, ...]
) -> None:
    fitted = FittedRouting(
        Routing(CLUSTERS, (0, 1), 0.0), dict(enumerate(subclassifiers)), Weighting(WEIGHTS)
    )
    with pytest.raises(EmptySplitError, match=r"no image to judge predictors on\. Expected"):
        evaluate(table, members, images(0), {})
    with pytest.raises(EmptySplitError, match="no image to judge predictors on"):
        evaluate_routed(table, members, images(0), fitted)
