"""The searches beyond the paper's, each against a slow and plain version of itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.errors import ConfigError, UnknownNameError
from ensemble.outranking import measures
from ensemble.outranking.builder import from_columns
from ensemble.outranking.one_weight import sweep
from ensemble.search.fit import SEARCHES, fit
from ensemble.search.likelihood import mixture_weights
from ensemble.search.settings import SearchConfig

KINDS = ["random", "eighths", "one_hot", "constant", "duplicates", "half", "broken"]
CASES = {
    "kind": st.sampled_from(KINDS),
    "seed": st.integers(0, 2**32 - 1),
    "shape": st.tuples(st.integers(2, 4), st.integers(2, 25), st.integers(3, 6)),
    "k": st.integers(1, 2),
}
UNIT = 100_000


def _table(logs, labels):
    return from_columns({f"m{i}": c for i, c in enumerate(logs)}, labels)


@pytest.fixture(scope="module")
def table(make_pool):
    return _table(*make_pool("random", 11, (6, 200, 5)))


@given(**CASES)
@settings(max_examples=25, deadline=None)
def test_line_is_at_least_as_good_as_the_grid_at_every_step(make_pool, kind, seed, shape, k):
    table = _table(*make_pool(kind, seed, shape))
    ensemble = fit(table, SearchConfig(kind="line", k=k))
    units = np.zeros(shape[0], dtype=int)
    for number, step in enumerate(ensemble.steps):
        member = table.member_names.index(step.member)
        if number:
            grid = sweep(table, units, member, k)
            assert step.errors <= grid.min()
            np.testing.assert_array_equal(step.errors_by_weight, grid)
        units[member] = round(step.weight * UNIT)
        assert table.errors(units, k) == step.errors


@given(seed=st.integers(0, 2**32 - 1), images=st.integers(1, 12), k=st.integers(1, 2))
@settings(max_examples=25, deadline=None)
def test_line_finds_the_least_errors_over_all_crossing_points(
    make_pool, brute_force, seed, images, k
):
    logs, labels = make_pool("random", seed, (2, images, 4))
    table = _table(logs, labels)
    ensemble = fit(table, SearchConfig(kind="line", k=k))
    anchor = table.member_names.index(ensemble.steps[0].member)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossings = -table.differences[anchor] / table.differences[1 - anchor]
    crossings = np.sort(np.concatenate([[0, 1], crossings[(crossings > 0) & (crossings < 1)]]))
    for weight in np.rint((crossings[1:] + crossings[:-1]) / 2 * UNIT).astype(int):
        units = np.array([UNIT, UNIT])
        units[1 - anchor] = weight
        assert ensemble.errors <= brute_force(logs, labels, units, k).sum()


@given(**CASES)
@settings(max_examples=15, deadline=None)
def test_forward_takes_what_helps_most_and_stops_when_nothing_does(make_pool, kind, seed, shape, k):
    table = _table(*make_pool(kind, seed, shape))
    ensemble = fit(table, SearchConfig(kind="forward", k=k))
    units = np.zeros(shape[0], dtype=int)
    for number, step in enumerate(ensemble.steps):
        member = table.member_names.index(step.member)
        if number:
            rest = np.flatnonzero(units == 0).tolist()
            assert step.errors <= min(sweep(table, units, m, k).min() for m in rest)
        units[member] = round(step.weight * UNIT)
    for member in np.flatnonzero(units == 0).tolist():
        assert sweep(table, units, member, k).min() >= ensemble.errors


def _plain_caruana(table, rounds, initial, k):
    """Votes of the best round, by counting everything anew."""

    def loss(votes):
        units = votes * (UNIT // rounds)
        return table.errors(units, k), round(measures.nll(table, units), 9)

    members = table.num_members
    order = np.lexsort((measures.member_nll(table), measures.member_errors(table, k)))[:initial]
    prefixes = [np.bincount(order[: n + 1], minlength=members) for n in range(len(order))]
    votes = min(prefixes, key=loss)
    best = (loss(votes), votes)
    for _ in range(rounds - len(prefixes)):
        votes = min((votes + one for one in np.eye(members, dtype=int)), key=loss)
        best = min(best, (loss(votes), votes), key=lambda pair: pair[0])
    return best


@given(initial=st.integers(1, 3), **CASES)
@settings(max_examples=25, deadline=None)
def test_caruana_is_the_plain_algorithm(make_pool, kind, seed, shape, k, initial):
    table = _table(*make_pool(kind, seed, shape))
    ensemble = fit(table, SearchConfig(kind="caruana", k=k, rounds=6, initial=initial))
    best, votes = _plain_caruana(table, 6, initial, k)
    assert (ensemble.errors, round(measures.nll(table, ensemble.units), 9)) == best
    np.testing.assert_allclose(ensemble.normalised, votes / votes.sum())


def test_caruana_with_bags_adds_the_votes_of_half_pools_by_seed(table):
    config = SearchConfig(kind="caruana", bags=5, rounds=4, seed=3)
    ensemble = fit(table, config)
    assert ensemble.weights.tobytes() == fit(table, config).weights.tobytes()
    assert ensemble.errors == table.errors(ensemble.units, 1)


@given(seed=st.integers(0, 2**32 - 1), members=st.integers(1, 5), images=st.integers(1, 60))
@settings(max_examples=40, deadline=None)
def test_likelihood_is_within_its_tolerance_of_the_optimum(seed, members, images):
    rng = np.random.default_rng(seed)
    probabilities = rng.beta(0.5, 0.5, size=(images, members)).clip(1e-6, 1)
    weights = mixture_weights(probabilities)
    gains = (probabilities / (probabilities @ weights)[:, None]).mean(axis=0)
    assert weights.sum() == pytest.approx(1)
    assert np.log(gains.max()) < 1e-5


@pytest.mark.parametrize("kind", ["random", "broken", "duplicates", "one_hot"])
def test_likelihood_has_the_lowest_nll_of_all_searches(make_pool, kind):
    table = _table(*make_pool(kind, 5, (4, 80, 5)))
    lowest = measures.nll(table, fit(table, SearchConfig(kind="likelihood")).units)
    for other in ("best", "uniform", "paper", "line", "caruana", "refine"):
        assert lowest <= measures.nll(table, fit(table, SearchConfig(kind=other)).units) + 1e-5


@given(**CASES)
@settings(max_examples=15, deadline=None)
def test_refine_is_never_worse_than_its_start_nor_than_a_step_from_its_end(
    make_pool, kind, seed, shape, k
):
    table = _table(*make_pool(kind, seed, shape))
    paper = fit(table, SearchConfig(kind="paper", k=k))
    refined = fit(table, SearchConfig(kind="refine", k=k))
    assert refined.errors <= paper.errors
    anchor = int(refined.units.argmax())
    for member in set(range(shape[0])) - {anchor}:
        assert sweep(table, refined.units, member, k).min() >= refined.errors
    again = SearchConfig(kind="refine", k=k, start=dict.fromkeys(table.member_names, 0.5))
    assert fit(table, again).errors <= fit(table, SearchConfig(kind="uniform", k=k)).errors


@pytest.mark.parametrize("kind", sorted(SEARCHES))
def test_every_search_keeps_to_the_caps(table, kind):
    names = table.member_names
    caps = {
        "max_members": {"max_members": 2},
        "max_per_family": {
            "max_per_family": 1,
            "families": {name: str(i % 2) for i, name in enumerate(names)},
        },
        "max_cost": {"max_cost": 3.0, "costs": {name: i + 1.0 for i, name in enumerate(names)}},
    }
    for name, cap in caps.items():
        chosen = [names.index(m) for m in fit(table, SearchConfig(kind=kind, **cap)).selected]
        assert chosen
        if name == "max_cost":
            assert sum(i + 1 for i in chosen) <= 3
        else:
            assert len(chosen) <= 2
        if name == "max_per_family":
            assert len({i % 2 for i in chosen}) == len(chosen)


@pytest.mark.parametrize("kind", sorted(set(SEARCHES) - {"best", "uniform"}))
def test_a_search_out_of_time_returns_what_it_has_and_says_so(table, kind):
    ensemble = fit(table, SearchConfig(kind=kind, time_limit_s=1e-9))
    assert ensemble.errors == table.errors(ensemble.units, 1)
    assert any("time limit" in note for note in ensemble.notes)


@pytest.mark.parametrize("kind", ["paper", "line", "forward", "caruana", "refine"])
def test_with_the_nll_as_objective_it_is_not_above_the_best_member(table, kind):
    config = SearchConfig(kind=kind, objective="nll")
    assert measures.nll(table, fit(table, config).units) <= measures.member_nll(table).min() + 1e-12


def test_the_top_1_objective_counts_top_1_errors_whatever_k(table):
    ensemble = fit(table, SearchConfig(kind="line", objective="top_1", k=3))
    assert (ensemble.k, ensemble.errors) == (1, table.errors(ensemble.units, 1))


def test_auto_takes_a_candidate_and_says_what_it_saw(table):
    ensemble = fit(table, SearchConfig(kind="auto"))
    assert ensemble.kind == "auto"
    (note,) = ensemble.notes
    chosen = note.split()[1]
    assert fit(table, SearchConfig(kind=chosen)).weights.tobytes() == ensemble.weights.tobytes()
    losses = dict(part.rsplit(" ", 1) for part in note.rstrip(".").split(": ")[1].split(", "))
    assert float(losses[chosen]) == min(map(float, losses.values()))


def test_of_equal_members_the_cheaper_is_taken(make_pool):
    logs, labels = make_pool("random", 2, (2, 60, 5))
    table = _table(np.concatenate([logs, logs[1:]]), labels)
    costs = {"m0": 1.0, "m1": 3.0, "m2": 2.0}
    for kind in ("forward", "caruana"):
        selected = fit(table, SearchConfig(kind=kind, costs=costs)).selected
        assert "m2" in selected or "m1" not in selected


def test_names_that_are_no_members_are_refused(table):
    for setting in ({"start": {"m9": 1}}, {"costs": {"m9": 1.0}}, {"families": {"m9": "x"}}):
        with pytest.raises(UnknownNameError, match="m9"):
            fit(table, SearchConfig(kind="refine", **setting))


def test_caps_that_nothing_can_meet_are_refused(table):
    costs = dict.fromkeys(table.member_names, 2.0)
    with pytest.raises(ConfigError, match="the cheapest member, 'm0', costs 2"):
        fit(table, SearchConfig(costs=costs, max_cost=1))
    with pytest.raises(ConfigError, match=r"search\.costs lacks m1"):
        fit(table, SearchConfig(costs={"m0": 2.0}))
    with pytest.raises(ConfigError, match="one weight must be above 0"):
        fit(table, SearchConfig(kind="refine", start={"m0": 0.0}))
    cheap = costs | {"m1": 0.5}
    with pytest.raises(ConfigError, match="allow none of these members"):
        fit(table, SearchConfig(kind="refine", start={"m0": 1}, costs=cheap, max_cost=1))


def test_caps_need_what_they_count(table):
    with pytest.raises(ConfigError, match="max_cost needs"):
        fit(table, SearchConfig(max_cost=1))
    with pytest.raises(ConfigError, match="max_per_family needs"):
        fit(table, SearchConfig(max_per_family=1))
