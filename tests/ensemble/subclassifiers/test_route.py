from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.evaluation import metrics
from ensemble.subclassifiers.choose import Evidence, fit_paper, routing_curve
from ensemble.subclassifiers.gates import Gate, choose_cluster, entropy, score
from ensemble.subclassifiers.label_clusters import LabelClusters
from ensemble.subclassifiers.route import (
    Routing,
    answer,
    front,
    is_routed,
    is_routed_to,
    rank_scores,
)
from ensemble.subclassifiers.settings import RoutingKind

CLUSTERS: LabelClusters = ((0, 3, 4), (2, 5), (1,))
KINDS: tuple[RoutingKind, ...] = ("hard", "top2", "soft")
PAPER = Routing(CLUSTERS, (0, 1, 2))


@dataclass(frozen=True)
class Case:
    """Probabilities of a base and of three sub-classifiers, and the truth."""

    base: np.ndarray
    subs: dict[int, np.ndarray]
    labels: np.ndarray

    @property
    def evidence(self) -> Evidence:
        return Evidence(CLUSTERS, self.base, self.subs, self.labels)


def opened(threshold: float, **changes: object) -> Routing:
    return replace(PAPER, threshold=threshold, **changes)


def softmax(logits: np.ndarray) -> np.ndarray:
    scores = np.exp(logits - logits.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)


def make_case(seed: int, images: int = 40) -> Case:
    rng = np.random.default_rng(seed)
    base = softmax(rng.normal(scale=rng.choice([0.2, 2.0]), size=(images, 6)))
    base[: images // 4] = base[0]  # equal entropies
    subs = {
        number: softmax(rng.normal(size=(images, len(group))))
        for number, group in enumerate(CLUSTERS)
    }
    return Case(base, subs, rng.integers(0, 6, size=images))


cases = st.builds(make_case, st.integers(0, 2**32 - 1))


def thresholds(case: Case) -> Iterator[float]:
    yield from np.unique(entropy(case.base)).tolist()
    yield np.inf


def test_entropy_is_in_nats() -> None:
    rows = np.array([[1.0, 0.0], [0.5, 0.5], [0.25, 0.75]])
    expected = [0, np.log(2), -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))]
    np.testing.assert_allclose(entropy(rows), expected, atol=1e-15)


def test_cluster_with_the_largest_mass_is_chosen_and_the_first_of_equals() -> None:
    rows = np.array(
        [[0.2, 0.3, 0.1, 0.2, 0.1, 0.1], [0, 0.9, 0.1, 0, 0, 0], [0, 0.5, 0.5, 0, 0, 0]]
    )
    assert choose_cluster(rows, CLUSTERS).tolist() == [0, 2, 1]


@settings(deadline=None)
@given(cases)
def test_gate_that_never_opens_leaves_the_bases_answers(case: Case) -> None:
    gate = is_routed(case.base, PAPER)
    assert not gate.any()
    assert np.array_equal(answer(case.base, case.subs, PAPER, gate), case.base)
    assert np.array_equal(rank_scores(case.base, case.subs, PAPER, gate), case.base)


@settings(deadline=None)
@given(cases)
def test_image_is_routed_from_the_threshold_on(case: Case) -> None:
    for threshold in thresholds(case):
        assert np.array_equal(
            is_routed(case.base, opened(threshold)), entropy(case.base) >= threshold
        )
    assert is_routed(case.base, opened(0.0)).all()


@settings(deadline=None)
@given(cases, st.integers(0, 2**32 - 1))
def test_answer_keeps_the_mass_of_every_cluster_and_shares_it_as_the_sub_classifier_says(
    case: Case, seed: int
) -> None:
    gate = np.random.default_rng(seed).random(len(case.base)) < 0.5
    before = case.base.copy()
    found = answer(case.base, case.subs, PAPER, gate)
    chosen = choose_cluster(case.base, CLUSTERS)
    for row, (probabilities, number) in enumerate(zip(found, chosen, strict=True)):
        for other, group in enumerate(CLUSTERS):
            columns, mass = list(group), case.base[row, list(group)].sum()
            if gate[row] and other == number:
                np.testing.assert_allclose(probabilities[columns], mass * case.subs[number][row])
            else:
                assert np.array_equal(probabilities[columns], case.base[row, columns])
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert np.array_equal(case.base, before)


@settings(deadline=None)
@given(cases)
def test_classes_of_the_routed_cluster_rank_first_in_the_sub_classifiers_order(case: Case) -> None:
    gate = np.ones(len(case.base), bool)
    order = np.argsort(-rank_scores(case.base, case.subs, PAPER, gate), axis=1, kind="stable")
    for row, number in enumerate(choose_cluster(case.base, CLUSTERS)):
        group = np.array(CLUSTERS[number])
        outside = np.setdiff1d(np.arange(6), group)
        inside_order = group[np.argsort(-case.subs[number][row], kind="stable")]
        outside_order = outside[np.argsort(-case.base[row, outside], kind="stable")]
        assert order[row].tolist() == [*inside_order, *outside_order]


@settings(deadline=None)
@given(cases)
def test_curve_is_brute_force_at_every_threshold(case: Case) -> None:
    curve = routing_curve(case.evidence, PAPER)
    assert curve.thresholds.tolist() == list(thresholds(case))
    for i, threshold in enumerate(curve.thresholds):
        gate = is_routed(case.base, opened(float(threshold)))
        scores = rank_scores(case.base, case.subs, PAPER, gate)
        assert curve.errors[i] == (scores.argmax(axis=1) != case.labels).sum()
        assert curve.routed[i] == gate.sum()
    assert curve.routed[-1] == 0


@settings(deadline=None)
@given(cases)
def test_best_threshold_has_the_fewest_errors_and_routes_least(case: Case) -> None:
    curve = routing_curve(case.evidence, PAPER)
    assert curve.errors[curve.best] == curve.errors.min()
    assert (curve.errors[curve.best + 1 :] > curve.errors[curve.best]).all()


def test_gate_stays_shut_where_nothing_is_gained() -> None:
    case = make_case(1)
    subs = {number: case.base[:, list(group)] for number, group in enumerate(CLUSTERS)}
    right = case.base.argmax(axis=1)
    curve = routing_curve(Evidence(CLUSTERS, case.base, subs, right), PAPER)
    assert curve.thresholds[curve.best] == np.inf


@settings(deadline=None)
@given(cases)
def test_row_that_is_no_number_is_never_routed_and_counts_as_an_error(case: Case) -> None:
    base = case.base.copy()
    base[::7] = np.nan
    curve = routing_curve(replace(case, base=base).evidence, PAPER)
    assert not np.isnan(curve.thresholds).any()
    for i, threshold in enumerate(curve.thresholds):
        gate = is_routed(base, opened(float(threshold)))
        scores = rank_scores(base, case.subs, PAPER, gate)
        assert curve.errors[i] == metrics.top_k_error_count(scores, case.labels, 1)
        assert curve.routed[i] == gate.sum()


@settings(deadline=None)
@given(cases, st.permutations(range(6)), st.sampled_from(KINDS))
def test_permuted_labels_permute_everything(
    case: Case, order: list[int], kind: RoutingKind
) -> None:
    # Class c becomes class place[c].
    place = np.argsort(order)
    base = case.base[:, order]
    clusters = tuple(tuple(int(place[label]) for label in group) for group in CLUSTERS)
    routing = replace(PAPER, kind=kind)
    permuted = replace(routing, clusters=clusters)
    gate = entropy(case.base) >= np.median(entropy(case.base))
    for function in (answer, rank_scores):
        plain = function(case.base, case.subs, routing, gate)
        np.testing.assert_allclose(function(base, case.subs, permuted, gate), plain[:, order])
    for name in ("entropy", "normalised_entropy", "margin", "logistic"):
        fitted = Gate(name, (0.3, -0.2, 0.5, 0.1, 0.4, 1.0) if name == "logistic" else ())
        np.testing.assert_allclose(
            score(fitted, base, clusters), score(fitted, case.base, CLUSTERS), atol=1e-12
        )
    curves = (
        routing_curve(case.evidence, routing),
        routing_curve(Evidence(clusters, base, case.subs, place[case.labels]), permuted),
    )
    # Entropies may differ in the last bit by the order of summation, and equal ones come apart.
    assert curves[0].errors[0] == curves[1].errors[0]
    assert curves[0].errors[-1] == curves[1].errors[-1]


@settings(deadline=None)
@given(cases, st.sampled_from(KINDS))
def test_one_cluster_of_all_classes_with_the_bases_own_probabilities_changes_nothing(
    case: Case, kind: RoutingKind
) -> None:
    everything, gate = Routing((tuple(range(6)),), (0,), kind=kind), np.ones(len(case.base), bool)
    found = answer(case.base, {0: case.base}, everything, gate)
    np.testing.assert_allclose(found, case.base)
    scores = rank_scores(case.base, {0: case.base}, everything, gate)
    assert np.array_equal(scores.argmax(axis=1), case.base.argmax(axis=1))
    evidence = Evidence(everything.clusters, case.base, {0: case.base}, case.labels)
    assert len(np.unique(routing_curve(evidence, everything).errors)) == 1


@settings(deadline=None)
@given(cases, st.sampled_from(KINDS), st.sets(st.integers(0, 2)), st.integers(0, 2**32 - 1))
def test_every_routing_keeps_the_mass_of_every_cluster(
    case: Case, kind: RoutingKind, used: set[int], seed: int
) -> None:
    gate = np.random.default_rng(seed).random(len(case.base)) < 0.5
    routing = replace(PAPER, kind=kind, used=tuple(sorted(used)))
    subs = {number: case.subs[number] for number in used}
    found = answer(case.base, subs, routing, gate)
    for group in CLUSTERS:
        np.testing.assert_allclose(
            found[:, list(group)].sum(axis=1), case.base[:, list(group)].sum(axis=1)
        )
    np.testing.assert_allclose(found.sum(axis=1), 1)


@settings(deadline=None)
@given(cases)
def test_soft_routing_is_the_law_of_total_probability(case: Case) -> None:
    gate = np.ones(len(case.base), bool)
    scores = rank_scores(case.base, case.subs, replace(PAPER, kind="soft"), gate)
    for row in range(len(case.base)):
        expected = np.empty(6)
        for number, group in enumerate(CLUSTERS):
            mass = case.base[row, list(group)].sum()
            expected[list(group)] = mass * case.subs[number][row]
        np.testing.assert_allclose(scores[row], expected)


@settings(deadline=None)
@given(cases)
def test_two_likeliest_clusters_answer_before_the_third(case: Case) -> None:
    routing = replace(PAPER, kind="top2", threshold=0.0)
    ahead = front(case.base, routing)
    assert (ahead.sum(axis=1) == 2).all()
    scores = rank_scores(case.base, case.subs, routing, is_routed(case.base, routing))
    soft = rank_scores(
        case.base, case.subs, replace(routing, kind="soft"), np.ones(len(case.base), bool)
    )
    for row, two in enumerate(ahead):
        inside = [label for number in np.flatnonzero(two) for label in CLUSTERS[number]]
        assert set(np.argsort(-scores[row])[: len(inside)]) == set(inside)
        assert scores[row].argmax() == max(sorted(inside), key=lambda c: soft[row, c])


@settings(deadline=None)
@given(cases, st.sampled_from(KINDS), st.sets(st.integers(0, 2)))
def test_a_cluster_that_is_not_used_is_never_asked(
    case: Case, kind: RoutingKind, used: set[int]
) -> None:
    routing = replace(PAPER, kind=kind, used=tuple(sorted(used)), threshold=0.5)
    asked, routed = is_routed_to(case.base, routing), is_routed(case.base, routing)
    assert not asked[:, [number for number in range(3) if number not in used]].any()
    assert np.array_equal(asked.any(axis=1), routed)
    # Without the others' probabilities at hand: they are not looked at.
    subs = {number: case.subs[number] for number in used}
    found = answer(case.base, subs, routing, routed)
    assert np.array_equal(found[~routed], case.base[~routed])


@settings(deadline=None)
@given(cases)
def test_papers_routing_has_the_fewest_errors_of_all_thresholds(case: Case) -> None:
    routing, curve = fit_paper(case.evidence)
    assert (routing.kind, routing.gate.kind, routing.used) == ("hard", "entropy", (0, 1, 2))
    gate = is_routed(case.base, routing)
    assert case.evidence.is_wrong(routing, gate).sum() == curve.errors.min()


def test_order_of_the_clusters_classes_is_that_of_the_columns() -> None:
    base = np.array([[0.5, 0.4, 0.1]])
    sub = {0: np.array([[0.75, 0.25]])}
    found = answer(base, sub, Routing(((1, 0), (2,)), (0,)), np.array([True]))
    np.testing.assert_allclose(found, [[0.9 * 0.25, 0.9 * 0.75, 0.1]])


def test_no_image_has_a_curve_of_the_shut_gate_alone() -> None:
    empty = {number: np.empty((0, len(group))) for number, group in enumerate(CLUSTERS)}
    evidence = Evidence(CLUSTERS, np.empty((0, 6)), empty, np.empty(0, np.int64))
    curve = routing_curve(evidence, PAPER)
    assert curve.thresholds.tolist() == [np.inf]
    assert curve.errors.tolist() == curve.routed.tolist() == [0]
    assert curve.best == 0


@pytest.mark.parametrize("threshold", [0.0, 1.0, np.inf])
def test_gate_stays_shut_for_a_row_that_is_no_number(threshold: float) -> None:
    assert not is_routed(np.full((1, 6), np.nan), opened(threshold)).any()
