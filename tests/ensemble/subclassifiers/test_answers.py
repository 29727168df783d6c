import numpy as np
import pytest

from ensemble.errors import EmptySplitError
from ensemble.evaluation import metrics
from ensemble.evaluation.calibration import (
    at_temperature,
    calibrate,
)
from ensemble.evaluation.outcome import Outcome, evaluate
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

from ..judged import CLUSTERS, NUM_IMAGES, WEIGHTS, Judged, images, same


@pytest.mark.parametrize("kind", ["hard", "top2", "soft"])
@pytest.mark.parametrize("used", [(0, 1), (1,)])
def test_routed_evaluation_is_that_in_one_piece(
    judged: Judged, kind: RoutingKind, used: tuple[int, ...]
) -> None:
    table, members, subclassifiers = judged.table, judged.members, judged.subclassifiers
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


def test_shut_gate_leaves_the_ensemble_image_by_image(judged: Judged) -> None:
    table, members, subclassifiers = judged.table, judged.members, judged.subclassifiers
    fitted = FittedRouting(
        Routing(CLUSTERS, (0, 1)), dict(enumerate(subclassifiers)), Weighting(WEIGHTS)
    )
    outcome, routed = evaluate_routed(table, members, images(), fitted)
    assert not routed.any()
    assert same(
        outcome, evaluate(table, members, images(), {"ensemble": Weighting(WEIGHTS)})["ensemble"]
    )


def test_a_temperature_is_fitted_on_what_is_said_in_the_end_and_judged_elsewhere(
    judged: Judged,
) -> None:
    table, members, subclassifiers = judged.table, judged.members, judged.subclassifiers
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


def test_evidence_is_the_weighted_average_and_what_each_sub_classifier_said(judged: Judged) -> None:
    table, members, subclassifiers = judged.table, judged.members, judged.subclassifiers
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
    judged: Judged, classes: tuple[int, ...]
) -> None:
    table, members = judged.table, judged.members
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


def test_sub_classifier_is_judged_by_its_own_columns(judged: Judged) -> None:
    table, subclassifiers = judged.table, judged.subclassifiers
    sub = subclassifiers[1]
    outcome = within_cluster(table, sub, images(), sub.classes)
    inside = np.isin(images().labels, sub.classes)
    rows = table.read(sub.column, images().image_ids)[inside]
    said = np.array(sub.classes)[rows.argmax(axis=1)]
    assert np.array_equal(outcome.is_wrong, said != images().labels[inside])


def test_cluster_without_an_image_has_an_empty_outcome(judged: Judged) -> None:
    table, members = judged.table, judged.members
    whole = images()
    without = whole.take(np.flatnonzero(whole.labels != 2))
    assert len(within_cluster(table, members[0], without, [2]).ranks) == 0


@pytest.mark.parametrize("count", [0, 1])
def test_no_temperature_of_answers_is_fitted_on_fewer_than_two_images(
    judged: Judged, count: int
) -> None:
    table, members = judged.table, judged.members
    search = images().take(np.arange(count))
    assert (
        calibrate_answers(table, members, search, images(), (Weighting(WEIGHTS), None), 0) is None
    )


def test_a_split_without_an_image_is_not_routed(judged: Judged) -> None:
    table, members, subclassifiers = judged.table, judged.members, judged.subclassifiers
    fitted = FittedRouting(
        Routing(CLUSTERS, (0, 1), 0.0), dict(enumerate(subclassifiers)), Weighting(WEIGHTS)
    )
    with pytest.raises(EmptySplitError, match="no image to judge predictors on"):
        evaluate_routed(table, members, images(0), fitted)
