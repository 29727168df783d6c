"""Weights for the loss of a member."""

import numpy as np

from ensemble.search.fallbacks import (
    find_fallbacks,
    find_fallbacks_among_selected,
    missing_fallbacks,
)
from ensemble.search.fit import fit
from ensemble.search.settings import SearchConfig


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


def test_a_loss_that_no_cheap_enough_member_makes_up_for_is_left_out_and_said(table):
    costs = {"m0": 40_000.0, "m1": 25_298.0, "m2": 35_636.0, "m3": 50_000.0, "m4": 60_000.0}
    config = SearchConfig(costs=costs, max_cost=30_000)
    ensemble = fit(table, config)
    assert ensemble.selected == ("m1",)
    fallbacks = find_fallbacks(table, ensemble, config)
    assert fallbacks == ()
    (sentence,) = missing_fallbacks(ensemble, fallbacks, config)
    assert (
        "loss of m1: the cheapest other member, m2, costs 35,636, and max_cost is 30,000"
        in sentence
    )
    wider = config.model_copy(update={"max_cost": 36_000.0})
    lines = find_fallbacks(table, fit(table, wider), wider)
    assert lines
    assert missing_fallbacks(fit(table, wider), lines, wider) == ()
