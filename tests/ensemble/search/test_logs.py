from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from ensemble.errors import ConfigError
from ensemble.evaluation import metrics
from ensemble.outranking import measures
from ensemble.outranking.builder import from_columns
from ensemble.outranking.table import OutrankingTable
from ensemble.outranking.weighting import Weighting
from ensemble.search import exponents
from ensemble.search.comparison import judge, predictors, warnings
from ensemble.search.crossfit import cross_fit, stratified_folds
from ensemble.search.explain import explain
from ensemble.search.fallbacks import find_fallbacks
from ensemble.search.fit import SEARCHES, fit
from ensemble.search.frontier import cost_frontier
from ensemble.search.settings import SearchConfig
from ensemble.search.stability import bootstrap

from ..pools import cases
from .pool import make_pool as make_good_pool

CASES = cases((1, 4), (1, 25), (2, 8), without=("double", "half_broken"), k=st.integers(1, 7))
LOGS = [kind for kind in SEARCHES if kind != "auto"]


def _both(logs, labels) -> OutrankingTable:
    columns = {f"m{i}": column for i, column in enumerate(logs)}
    return from_columns(columns, labels, combines=("probabilities", "logs"))


def _unequally_sure(seed, images=600):
    """Five equally good members, of which each is surer of itself than the one before."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 6, images)
    logits = rng.normal(scale=1.2, size=(5, images, 6)) + rng.normal(scale=0.8, size=(images, 6))
    logits[:, np.arange(images), labels] += 2
    logits *= np.geomspace(0.6, 6, 5)[:, None, None]
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True)), labels


@given(**CASES)
@settings(max_examples=8, deadline=None)
def test_every_search_of_logs_counts_its_own_errors_and_is_deterministic(
    make_pool, kind, seed, shape, k
):
    k = min(k, shape[2] - 1)
    logs, labels = make_pool(kind, seed, shape)
    table = _both(logs, labels)
    for name in SEARCHES:
        config = SearchConfig(kind=name, k=k, combine="logs")
        ensemble, again = fit(table, config), fit(table, config)
        assert ensemble.combine == "logs"
        assert ensemble.errors == table.of("logs").errors(ensemble.units, k)
        dense = metrics.scores(logs, ensemble.weighting)
        assert ensemble.errors == metrics.top_k_error_count(dense, labels, k)
        assert ensemble.weights.tobytes() == again.weights.tobytes()
        assert ensemble.scale == again.scale


@given(**CASES)
@settings(max_examples=30, deadline=None)
def test_no_search_of_logs_but_likelihood_has_more_errors_than_the_best_member(
    make_pool, kind, seed, shape, k
):
    k = min(k, shape[2] - 1)
    table = _both(*make_pool(kind, seed, shape))
    best = measures.member_errors(table.of("logs"), k).min()
    for name in ("best", "paper", "line", "forward", "caruana", "refine"):
        assert fit(table, SearchConfig(kind=name, k=k, combine="logs")).errors <= best


@pytest.mark.parametrize("strength", [0.0, 10.0, 1e6])
@pytest.mark.parametrize("seed", [0, 1])
def test_exponents_have_the_highest_likelihood_that_a_general_solver_finds(seed, strength):
    logs, labels = _unequally_sure(seed, 200)
    logs[4] = logs[3]  # a copy leaves many answers, of which all are as good
    sample = _both(logs, labels).log_sample
    equal = sample.common_scale / 5

    def loss(weights):
        scores = np.einsum("m,mic->ic", weights, logs)
        own = scores[np.arange(200), labels]
        nll = (np.log(np.exp(scores).sum(axis=1)) - own).mean()
        return nll + strength / 200 / 2 * ((weights - equal) ** 2).sum()

    found = exponents.fit_exponents(sample, np.arange(5), strength)
    best = minimize(loss, np.full(5, 0.3), bounds=[(0, None)] * 5, tol=1e-12)
    assert (found >= 0).all()
    assert loss(found) <= best.fun + 1e-6


def test_a_ridge_without_end_gives_equal_weights_at_the_scale_that_suits_them():
    sample = _both(*_unequally_sure(0)).log_sample
    found = exponents.fit_exponents(sample, np.arange(5), exponents.STRENGTHS[-1])
    np.testing.assert_allclose(found, sample.common_scale / 5, atol=1e-3)
    few = sample.take(np.arange(2))
    assert exponents.choose_strength(few, 0) == exponents.STRENGTHS[-1]


def test_likelihood_of_logs_makes_up_for_members_that_are_too_sure():
    table, held_out = _both(*_unequally_sure(0)), _both(*_unequally_sure(1, 4000))
    errors = {}
    for combine in ("probabilities", "logs"):
        ensemble = fit(table, SearchConfig(kind="likelihood", combine=combine))
        errors[combine] = held_out.of(combine).errors(ensemble.units, 1)
    assert errors["logs"] < errors["probabilities"]
    weights = fit(table, SearchConfig(kind="likelihood", combine="logs", objective="nll")).weights
    assert weights[4] < weights[0] / 3


def test_likelihood_of_logs_takes_a_step_only_where_errors_fall():
    table = _both(*_unequally_sure(2))
    plain = fit(table, SearchConfig(kind="likelihood", combine="logs", objective="nll"))
    refined = fit(table, SearchConfig(kind="likelihood", combine="logs"))
    path = [plain.errors, *(step.errors for step in refined.steps)]
    assert all(after < before for before, after in pairwise(path))
    assert refined.errors == path[-1]
    if not refined.steps:
        assert refined.weights.tobytes() == plain.weights.tobytes()


def test_the_scale_has_a_lower_nll_than_scales_beside_it():
    table = _both(*_unequally_sure(3))
    for kind in LOGS:
        ensemble = fit(table, SearchConfig(kind=kind, combine="logs"))
        nll = {
            factor: measures.nll(table.of("logs"), ensemble.units, ensemble.scale * factor)
            for factor in (0.9, 1.0, 1.1)
        }
        assert nll[1.0] == min(nll.values())


def test_limits_bind_likelihood_of_logs():
    table = _both(*_unequally_sure(4))
    config = SearchConfig(kind="likelihood", combine="logs", max_members=2)
    assert len(fit(table, config).selected) <= 2


def test_auto_tries_both_means_and_its_note_says_what_each_gave():
    table = _both(*_unequally_sure(5))
    ensemble = fit(table, SearchConfig())
    assert ensemble.combine == "logs"
    assert ensemble.kind == "auto"
    (note, *_) = ensemble.notes
    assert f"Chose {ensemble.chosen} on logs by top-1 errors" in note
    for kind in LOGS:
        assert note.count(f"{kind} ") >= 1 + (kind not in ("best",))
    alone = fit(table, SearchConfig(combine="probabilities"))
    assert alone.combine == "probabilities"
    assert "means of logs" not in alone.notes[0]


@pytest.mark.parametrize("seed", range(4))
def test_auto_is_never_worse_than_the_best_member_on_images_held_out(seed, make_pool):
    for logs, labels in (make_good_pool(seed, images=60), make_pool("random", seed, (3, 60, 4))):
        table = _both(logs, labels)
        folds = stratified_folds(table.labels, 5, 0)
        chosen = fit(table, SearchConfig())

        def held_out(kind, combine, table=table, folds=folds):
            config = SearchConfig(kind=kind, combine=combine)
            return cross_fit(table, lambda part: fit(part, config), folds, 1).is_error.sum()

        best = held_out("best", "probabilities")
        assert held_out(chosen.chosen, chosen.combine) <= best


def test_what_comes_after_a_search_follows_it_to_logs():
    logs, labels = _unequally_sure(6)
    table = _both(logs, labels)
    costs = {f"m{i}": 1.0 + i for i in range(5)}
    config = SearchConfig(kind="likelihood", combine="logs", costs=costs)
    ensemble, of_logs = fit(table, config), table.of("logs")
    reasons = explain(table, ensemble, config)
    assert sum(reason.gain or 0 for reason in reasons) == table.num_counted - ensemble.errors
    stability = bootstrap(table, ensemble, config, resamples=3)
    assert stability.resamples == 3
    for fallback in find_fallbacks(table, ensemble, config):
        units = np.array([round(fallback.weights.get(f"m{i}", 0) * 1e5) for i in range(5)])
        assert fallback.errors == of_logs.errors(units, 1)
        assert fallback.scale > 0
    for point in cost_frontier(table, config, [ensemble], resamples=100):
        assert point.ensemble.combine == "logs"
        assert point.ensemble.errors == of_logs.errors(point.ensemble.units, 1)
    rows = predictors(table, config, ensemble)
    judged = {row.key: row for row in judge(table, rows, resamples=100)}
    assert judged["ensemble"].errors == ensemble.errors
    dense = metrics.pooled(logs, ensemble.weighting)
    assert judged["ensemble"].nll == pytest.approx(metrics.nll(dense, labels), abs=1e-4)
    paper = fit(table, SearchConfig(kind="paper"))
    assert judged["paper"].errors == paper.errors


def test_the_paper_is_compared_with_even_where_its_search_was_made_of_logs():
    table = _both(*_unequally_sure(7))
    config = SearchConfig(kind="paper", combine="logs")
    keys = [row.key for row in predictors(table, config, fit(table, config))]
    assert keys[-2:] == ["paper", "ensemble"]


def test_members_that_are_not_equally_sure_are_warned_of_where_probabilities_are_averaged():
    table = _both(*_unequally_sure(8))
    by_combine = {
        combine: warnings(table, fit(table, SearchConfig(kind="uniform", combine=combine)))
        for combine in ("probabilities", "logs")
    }
    assert any("temperatures that suit the members" in w for w in by_combine["probabilities"])
    assert not any("temperatures" in w for w in by_combine["logs"])
    even = _both(*make_good_pool(0))
    ensemble = fit(even, SearchConfig(kind="uniform"))
    assert not any("temperatures" in w for w in warnings(even, ensemble))


def test_logs_are_refused_where_the_table_has_none(table):
    with pytest.raises(ConfigError, match="not of logs"):
        fit(table, SearchConfig(kind="paper", combine="logs"))
    assert fit(table, SearchConfig()).combine == "probabilities"


def test_settings_say_which_means_a_table_is_built_for():
    assert SearchConfig().combines == ("probabilities", "logs")
    assert SearchConfig(kind="paper").combines == ("probabilities",)
    assert SearchConfig(kind="paper", combine="logs").combines == ("probabilities", "logs")
    assert SearchConfig(combine="probabilities").combines == ("probabilities",)


def test_weightings_are_equal_where_their_averages_are():
    weighting = Weighting(np.array([1, 2]), "logs", 1.5)
    assert weighting.equals(Weighting(np.array([1, 2]), "logs", 1.5))
    assert not weighting.equals(Weighting(np.array([1, 2]), "logs", 1.0))
    assert not weighting.equals(Weighting(np.array([1, 2])))
    assert not weighting.equals(Weighting(np.array([1, 3]), "logs", 1.5))
