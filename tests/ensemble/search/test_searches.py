import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ensemble.errors import ConfigError, ShapeError, UnknownNameError
from ensemble.outranking import measures
from ensemble.outranking.builder import from_columns
from ensemble.search.fit import SEARCHES, fit
from ensemble.search.result import Ensemble
from ensemble.search.settings import SearchConfig
from ensemble.search.weights import best_first, best_member

from ..pools import cases

CASES = cases((1, 4), (1, 25), (2, 8), without=("double", "half_broken"), k=st.integers(1, 7))


def _table(logs, labels):
    return from_columns({f"m{i}": c for i, c in enumerate(logs)}, labels)


def _table_1(logs, labels, k, brute_force):
    """Table 1 of the paper, by brute force over every image, class and weight."""
    members = len(logs)

    def errors(weights):
        return int(brute_force(logs, labels, weights, k).sum())

    def loss(member):
        own = logs[member].astype(np.float64)[np.arange(len(labels)), labels]
        broken = ~(logs[member].max(axis=1) < np.inf)
        quantised = np.rint(np.exp(np.where(broken, -np.inf, own)) * 2**30) / 2**30
        return -np.log(np.maximum(quantised, 2**-30)).mean()

    single = [errors(np.eye(members, dtype=int)[m]) for m in range(members)]
    remaining = sorted(range(members), key=lambda m: (single[m], loss(m), m))
    weights = np.zeros(members, dtype=int)
    weights[remaining.pop(0)] = 100
    path = [errors(weights)]
    while remaining:
        member = remaining.pop(0)
        tried = []
        for weight in range(101):
            weights[member] = weight
            tried.append(errors(weights))
        weights[member] = tried.index(min(tried))
        path.append(min(tried))
    return weights, path


@given(**CASES)
@settings(max_examples=80, deadline=None)
def test_paper_search_is_table_1(make_pool, brute_force, kind, seed, shape, k):
    k = min(k, shape[2] - 1)
    logs, labels = make_pool(kind, seed, shape)
    ensemble = fit(_table(logs, labels), SearchConfig(kind="paper", k=k))
    weights, path = _table_1(logs, labels, k, brute_force)
    assert ensemble.units.tolist() == (weights * 1000).tolist()
    assert [step.errors for step in ensemble.steps] == path
    assert ensemble.errors == path[-1]


@given(**CASES)
@settings(max_examples=8, deadline=None)
def test_every_search_counts_its_own_errors_and_is_deterministic(make_pool, kind, seed, shape, k):
    k = min(k, shape[2] - 1)
    table = _table(*make_pool(kind, seed, shape))
    for name in SEARCHES:
        ensemble = fit(table, SearchConfig(kind=name, k=k))
        again = fit(table, SearchConfig(kind=name, k=k))
        assert ensemble.errors == table.errors(ensemble.units, k)
        assert (ensemble.kind, ensemble.k, ensemble.num_images) == (name, k, shape[1])
        assert ensemble.weights.tobytes() == again.weights.tobytes()


@given(**CASES)
@settings(max_examples=50, deadline=None)
def test_paper_search_is_never_worse_than_the_best_member_and_each_step_helps_or_stays(
    make_pool, kind, seed, shape, k
):
    k = min(k, shape[2] - 1)
    table = _table(*make_pool(kind, seed, shape))
    ensemble = fit(table, SearchConfig(kind="paper", k=k))
    best = fit(table, SearchConfig(kind="best", k=k))
    path = [step.errors for step in ensemble.steps]
    assert path[0] == best.errors == measures.member_errors(table, k).min()
    assert path == sorted(path, reverse=True)
    for step in ensemble.steps[1:]:
        assert step.errors == step.errors_by_weight.min()
        assert step.selected == (step.weight > 0)


def test_paper_search_on_a_bootstrap_sample_is_the_search_on_the_repeated_images(make_pool):
    logs, labels = make_pool("random", 7, (4, 60, 6))
    table = _table(logs, labels)
    rng = np.random.default_rng(0)
    for _ in range(5):
        sample = rng.integers(0, 60, size=60)
        counts = np.bincount(sample, minlength=60)
        repeated = fit(_table(logs[:, sample], labels[sample]), SearchConfig(kind="paper", k=2))
        counted = fit(table.reweighted(counts), SearchConfig(kind="paper", k=2))
        assert _path(counted) == _path(repeated)
        assert counted.num_images == repeated.num_images == 60


def _path(ensemble):
    return [(step.member, step.weight, step.errors) for step in ensemble.steps]


def test_members_with_equal_errors_are_ordered_by_nll_then_pool():
    sure, unsure = np.log([0.8, 0.1, 0.1]), np.log([0.5, 0.3, 0.2])
    logs = np.array([[unsure], [sure], [sure]], dtype=np.float32)
    assert best_first(_table(logs, np.array([0])), SearchConfig()).tolist() == [1, 2, 0]


def test_best_and_uniform_have_the_weights_of_their_names(make_pool):
    table = _table(*make_pool("random", 4, (3, 40, 5)))
    assert fit(table, SearchConfig(kind="uniform")).weights.tolist() == [1.0, 1.0, 1.0]
    best = fit(table, SearchConfig(kind="best"))
    assert best.selected == (table.member_names[best_member(table, SearchConfig())],)


def test_k_must_be_below_the_number_of_classes(make_pool):
    table = _table(*make_pool("random", 4, (2, 10, 3)))
    for name in SEARCHES:
        with pytest.raises(ConfigError, match="k = 3 with 3 classes"):
            fit(table, SearchConfig(kind=name, k=3))


def test_an_unknown_search_is_refused_with_the_known_ones(make_pool):
    table = _table(*make_pool("random", 4, (2, 10, 3)))
    unknown = SearchConfig.model_construct(kind="papper", k=1)
    with pytest.raises(UnknownNameError, match="Did you mean 'paper'"):
        fit(table, unknown)
    with pytest.raises(ValidationError, match="kind"):
        SearchConfig(kind="papper")


def test_every_search_has_a_setting_and_every_setting_a_search():
    assert set(SearchConfig.model_fields["kind"].annotation.__args__) == set(SEARCHES)


@pytest.mark.parametrize("k", [0, 11])
def test_k_is_bounded(k):
    with pytest.raises(ValidationError, match="k"):
        SearchConfig(k=k)


def _ensemble(weights, members=("a", "b", "c")):
    return Ensemble(members, np.array(weights), "paper", 1, 25, 100)


def test_an_ensemble_keeps_its_raw_weights_and_offers_others():
    ensemble = _ensemble([1.0, 0.29, 0.0])
    assert ensemble.units.tolist() == [100_000, 29_000, 0]
    assert ensemble.selected == ("a", "b")
    assert ensemble.normalised.sum() == pytest.approx(1)
    assert ensemble.error == 0.25
    with pytest.raises(ValueError, match="read-only"):
        ensemble.weights[0] = 2


def test_an_ensemble_refuses_unusable_weights(shapes_unchecked):
    with pytest.raises(ShapeError, match="2 weights for 3 members"):
        _ensemble([1.0, 1.0])
    with pytest.raises(ConfigError, match=r"not multiples of 0\.00001"):
        _ensemble([1.0, 0.000005, 0.0])
    with pytest.raises(ConfigError, match="one must be positive"):
        _ensemble([0.0, 0.0, 0.0])
