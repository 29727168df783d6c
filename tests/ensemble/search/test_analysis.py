"""What is said about weights once they are found: why, stability, cost, missing members, honesty."""

import numpy as np
import pytest

from ensemble.errors import ConfigError, EmptySplitError, ShapeError
from ensemble.outranking.boxed import box_table
from ensemble.outranking.builder import from_columns
from ensemble.search.comparison import judge, judge_cross_fitted, predictors, warnings
from ensemble.search.crossfit import cross_fit, stratified_folds
from ensemble.search.explain import explain
from ensemble.search.fallbacks import find_fallbacks, find_fallbacks_among_selected
from ensemble.search.fit import fit
from ensemble.search.frontier import cheapest_tied, cost_frontier
from ensemble.search.settings import SearchConfig
from ensemble.search.stability import bootstrap


def _table(logs, labels):
    return from_columns({f"m{i}": c for i, c in enumerate(logs)}, labels)


def _pool(seed, images=300, classes=6, members=5):
    """Members that are better than chance, the last one best, and a copy of it in front."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    logits = rng.normal(scale=1.5, size=(members, images, classes))
    logits[:, np.arange(images), labels] += np.linspace(1.5, 3, members)[:, None]
    logits[0] = logits[-1]
    logs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return logs, labels


@pytest.fixture(scope="module")
def table():
    return _table(*_pool(0))


@pytest.fixture(scope="module")
def held_out():
    return _table(*_pool(1))


def test_every_member_gets_a_line_that_counts_right(table):
    config = SearchConfig(kind="line")
    ensemble = fit(table, config)
    lines = explain(table, ensemble, config)
    assert [line.member for line in lines] == list(table.member_names)
    assert table.num_images - sum(line.gain or 0 for line in lines) == ensemble.errors
    for member, line in enumerate(lines):
        assert (line.loss is None) == (line.gain is None) == (line.weight == 0)
        if line.weight:
            units = np.where(np.arange(5) == member, 0, ensemble.units)
            assert line.loss == table.errors(units, 1) - ensemble.errors


def test_a_copy_of_a_member_is_named_as_redundant(table):
    config = SearchConfig(kind="paper")
    lines = explain(table, fit(table, config), config)
    copy = next(line for line in lines if line.weight == 0 and line.nearest in ("m0", "m4"))
    assert copy.correlation == pytest.approx(1)
    assert "its 60 errors are also errors of m0" in copy.reason or "errors of m" in copy.reason


def test_what_caps_keep_out_says_so(table):
    config = SearchConfig(max_members=1)
    lines = explain(table, fit(table, config), config)
    assert {line.reason for line in lines if not line.weight} == {"The caps leave no room for it."}
    only = next(line for line in lines if line.weight)
    assert (only.nearest, only.loss) == (None, table.num_images - only.errors)


def test_a_member_that_is_lost_has_weights_to_fall_back_on(table):
    config = SearchConfig(kind="line", costs={name: 1.0 for name in table.member_names})
    ensemble = fit(table, config)
    fallbacks = find_fallbacks(table, ensemble, config)
    assert [fallback.member for fallback in fallbacks] == list(ensemble.selected)
    for fallback in fallbacks:
        weights = np.array([fallback.weights.get(name, 0.0) for name in table.member_names])
        assert fallback.member not in fallback.weights
        assert table.errors(np.rint(weights * 100_000).astype(int), 1) == fallback.errors
        assert fallback.errors <= fallback.errors_unchanged


def test_an_artifact_falls_back_on_members_that_it_holds(table):
    config = SearchConfig(kind="paper", families={name: "x" for name in table.member_names})
    ensemble = fit(table, config)
    lines = find_fallbacks_among_selected(table, ensemble, config)
    assert [line.member for line in lines] == list(ensemble.selected)
    for line in lines:
        assert set(line.weights) <= set(ensemble.selected) - {line.member}
        assert line.errors <= line.errors_unchanged


def test_a_pool_of_one_has_nothing_to_fall_back_on(table):
    alone = table.select([2])
    assert alone.member_names == ("m2",)
    assert find_fallbacks(alone, fit(alone, SearchConfig()), SearchConfig()) == ()


def test_selected_members_keep_their_scores(table):
    part = table.select([3, 1])
    np.testing.assert_array_equal(
        part.is_error(np.array([100, 40]), 2), table.is_error(np.array([0, 40, 0, 100, 0]), 2)
    )
    with pytest.raises(ConfigError, match="the table is boxed"):
        box_table(table, 0, 1).select([0])


def test_the_frontier_rises_in_cost_and_falls_in_errors(table):
    costs = {name: 2.0**i for i, name in enumerate(table.member_names)}
    config = SearchConfig(kind="line", costs=costs)
    ensemble = fit(table, config)
    frontier = cost_frontier(table, config, also=[ensemble])
    spent, errors = [p.cost for p in frontier], [p.ensemble.errors for p in frontier]
    assert spent == sorted(set(spent))
    assert errors == sorted(set(errors), reverse=True)
    assert errors[-1] <= ensemble.errors
    assert spent[0] == 1.0
    tied = cheapest_tied(frontier)
    assert tied.is_tied
    assert not any(point.is_tied for point in frontier if point.cost < tied.cost)
    bounded = cost_frontier(table, config.model_copy(update={"max_cost": 9.0}), also=[ensemble])
    assert bounded[-1].cost <= 9
    with pytest.raises(ConfigError, match="needs search"):
        cost_frontier(table, SearchConfig())


def test_a_frontier_goes_below_the_cost_of_a_warm_start(table):
    costs = {name: 2.0**i for i, name in enumerate(table.member_names)}
    start = {table.member_names[-1]: 1.0}
    frontier = cost_frontier(table, SearchConfig(kind="refine", start=start, costs=costs))
    assert frontier[0].cost == 1.0


def test_stability_counts_how_often_members_are_selected(table):
    config = SearchConfig(kind="paper")
    ensemble = fit(table, config)
    stability = bootstrap(table, ensemble, config, resamples=30, seed=1)
    assert stability.resamples == 30
    assert stability == bootstrap(table, ensemble, config, resamples=30, seed=1)
    assert sum(member.mean for member in stability.members) == pytest.approx(1)
    for member in stability.members:
        assert 0 <= member.frequency <= 1
        assert 0 <= member.low <= member.high <= 1
    assert stability.in_bag_error < stability.out_of_bag_error
    hurried = bootstrap(table, ensemble, config, resamples=30, time_limit_s=0.0)
    assert hurried.resamples == 1


def test_what_is_compared_is_judged_on_images_it_was_not_fitted_on(table, held_out):
    config = SearchConfig(kind="line")
    compared = predictors(table, config, fit(table, config))
    rows = judge(held_out, compared)
    keys = ["best", "uniform_all", "uniform_selected", "paper", "ensemble"]
    assert [row.key for row in rows] == keys
    for row, predictor in zip(rows, compared, strict=True):
        assert (row.key, row.label) == (predictor.key, predictor.label)
        assert row.n == held_out.num_images
        assert row.errors == held_out.errors(predictor.ensemble.units, 1)
        assert (row.against_best is None) == (row.key == "best")
        assert (row.against_uniform is None) == (row.key == "uniform_all")
    best, chosen = rows[0], rows[-1]
    assert chosen.against_best.interval.mean == (chosen.errors - best.errors) / 300
    assert chosen.against_best.broken - chosen.against_best.fixed == chosen.errors - best.errors


def test_the_papers_search_stands_once_where_it_made_the_ensemble(table):
    config = SearchConfig(kind="paper")
    keys = [row.key for row in predictors(table, config, fit(table, config))]
    assert keys == ["best", "uniform_all", "uniform_selected", "ensemble"]


def test_one_labelled_set_is_cross_fitted(table):
    config = SearchConfig(kind="line", seed=4)
    folds = stratified_folds(table.labels, 2, 4)
    rows = judge_cross_fitted([table, table], folds, config)
    assert {row.n for row in rows} == {table.num_images}
    expected = cross_fit(table, lambda part: fit(part, config), folds, 1).is_error.sum()
    assert rows[-1].errors == expected
    by_hand = 0
    for fold in (0, 1):
        ensemble = fit(table.reweighted((folds != fold).astype(int)), config)
        by_hand += (table.is_error(ensemble.units, 1) & (folds == fold)).sum()
    assert expected == by_hand


def test_folds_are_stratified_and_refused_when_there_are_too_few_images():
    labels = np.repeat(np.arange(4), 10)
    folds = stratified_folds(labels, 5, 0)
    counts = np.array([np.bincount(folds[labels == label], minlength=5) for label in range(4)])
    assert (counts == 2).all()
    with pytest.raises(ConfigError, match="2 folds of 1 images"):
        stratified_folds(labels[:1], 2, 0)


def test_a_small_search_split_and_few_errors_are_warned_of(table):
    assert warnings(table, fit(table, SearchConfig(kind="paper"))) == ()
    small = _table(*_pool(0, images=20))
    found = " ".join(warnings(small, fit(small, SearchConfig(kind="paper"))))
    assert "20 images for 6 classes" in found
    assert "single images decide" in found


def test_broken_rows_and_ties_are_warned_of():
    logs, labels = _pool(0)
    logs[1, :3, 0] = np.nan
    logs[2:] = logs[2]
    table = _table(logs, labels)
    found = " ".join(warnings(table, fit(table, SearchConfig(kind="uniform"))))
    assert "m1 has NaN or infinity on 3 images" in found


def test_counts_of_images_must_fit(table, shapes_unchecked):
    with pytest.raises(ShapeError, match="2 counts for 300 images"):
        table.reweighted(np.array([1, 1]))
    with pytest.raises(EmptySplitError, match="no image counts"):
        table.reweighted(np.zeros(300, dtype=int))
