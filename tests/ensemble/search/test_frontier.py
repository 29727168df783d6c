"""Error against cost."""

import pytest

from ensemble.errors import ConfigError
from ensemble.search.fit import fit
from ensemble.search.frontier import cheapest_tied, cost_frontier
from ensemble.search.settings import SearchConfig


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
