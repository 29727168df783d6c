from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.subclassifiers.choose import Evidence, best_trial, cross_validate
from ensemble.subclassifiers.gates import choose_cluster
from ensemble.subclassifiers.route import is_routed
from ensemble.subclassifiers.settings import GateKind, RoutingKind

CLUSTERS = ((0, 1, 2), (3, 4, 5))
GATES: tuple[GateKind, ...] = ("entropy", "normalised_entropy", "margin", "logistic")
KINDS: tuple[RoutingKind, ...] = ("hard", "top2", "soft")


def softmax(logits: np.ndarray) -> np.ndarray:
    scores = np.exp(logits)
    return scores / scores.sum(axis=1, keepdims=True)


def evidence(seed: int, skill: tuple[float, float], images: int = 400) -> Evidence:
    """A base that knows the label cluster better than the class; `skill` is what each sub knows."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 6, size=images)
    logits = rng.normal(size=(images, 6))
    logits[np.arange(images), labels] += 1
    logits += 2 * (labels[:, None] // 3 == np.arange(6) // 3)
    subs = {}
    for number, group in enumerate(CLUSTERS):
        sub = rng.normal(size=(images, 3))
        sub += skill[number] * (labels[:, None] == np.array(group))
        subs[number] = softmax(sub)
    return Evidence(CLUSTERS, softmax(logits), subs, labels)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gate", GATES)
def test_sub_classifiers_that_know_more_are_used_and_others_are_not(
    gate: GateKind, kind: RoutingKind
) -> None:
    trial = cross_validate(evidence(0, (6.0, 0.0)), gate, kind, seed=0)
    assert trial.routing.is_open
    assert trial.routing.used == (0,)
    assert trial.held_out_errors < trial.base_errors
    assert trial.gains[0] > 0 >= trial.gains[1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gate", GATES)
def test_the_gate_stays_shut_where_nobody_knows_more(gate: GateKind, kind: RoutingKind) -> None:
    trial = cross_validate(evidence(1, (0.0, 0.0)), gate, kind, seed=0)
    assert not trial.routing.is_open
    assert trial.held_out_errors >= trial.base_errors


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.sampled_from(GATES), st.sampled_from(KINDS))
def test_gains_are_what_the_held_out_errors_say(
    seed: int, gate: GateKind, kind: RoutingKind
) -> None:
    given = evidence(seed, (1.5, 1.5), images=80)
    trial = cross_validate(given, gate, kind, seed=0)
    assert trial.base_errors - trial.held_out_errors == sum(trial.gains)
    assert all((gain > 0) == (i in trial.routing.used) for i, gain in enumerate(trial.gains))
    assert cross_validate(given, gate, kind, seed=0).routing == trial.routing
    slices = choose_cluster(given.base, CLUSTERS)
    routed = is_routed(given.base, trial.routing)
    assert trial.routing.is_open == (trial.held_out_errors < trial.base_errors)
    if kind == "hard":
        assert not routed[~np.isin(slices, trial.routing.used)].any()


def test_label_cluster_without_a_sub_classifier_is_never_used() -> None:
    whole = evidence(0, (6.0, 6.0))
    failed = replace(whole, subs={1: whole.subs[1]})
    for gate in GATES:
        for kind in KINDS:
            trial = cross_validate(failed, gate, kind, seed=0)
            assert trial.routing.used == (1,)
            assert trial.routing.is_open
    nobody = replace(whole, subs={})
    assert not cross_validate(nobody, "entropy", "hard", seed=0).routing.is_open


def test_fewer_images_than_folds_open_no_gate() -> None:
    few = evidence(0, (6.0, 6.0)).take(np.arange(3))
    assert not cross_validate(few, "entropy", "hard", seed=0).routing.is_open


def test_best_trial_has_the_fewest_held_out_errors_and_of_equals_routes_least() -> None:
    trial = cross_validate(evidence(0, (6.0, 6.0)), "entropy", "hard", seed=0)
    more = np.flatnonzero(~trial.held_out_wrong)[:1]
    wrong = trial.held_out_wrong | np.isin(np.arange(len(trial.held_out_wrong)), more)
    worse = replace(trial, held_out_wrong=wrong, held_out_routed=0)
    lazier = replace(trial, held_out_routed=trial.held_out_routed - 1)
    assert best_trial([worse, trial, lazier, lazier]) == 2


@pytest.mark.parametrize("k", [1, 2, 3])
def test_errors_are_counted_at_k(k: int) -> None:
    given = replace(evidence(4, (3.0, 3.0)), k=k)
    order = np.argsort(-given.base, axis=1, kind="stable")[:, :k]
    base_errors = int((order != given.labels[:, None]).all(axis=1).sum())
    trial = cross_validate(given, "entropy", "soft", seed=0)
    assert trial.base_errors == base_errors
    assert trial.held_out_errors == trial.base_errors - sum(trial.gains)


def test_a_trial_that_a_cost_bound_leaves_no_room_for_comes_last() -> None:
    trial = cross_validate(evidence(0, (6.0, 0.0)), "entropy", "hard", seed=0)
    worse = cross_validate(evidence(1, (0.0, 0.0)), "entropy", "hard", seed=0)
    assert best_trial([worse, trial]) == 1
    assert best_trial([worse, replace(trial, is_affordable=False)]) == 0
