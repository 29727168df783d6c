"""Weights for the loss of a member."""

import numpy as np

from ensemble.search.fallbacks import find_fallbacks, find_fallbacks_among_selected
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
