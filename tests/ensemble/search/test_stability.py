"""How weights vary over bootstrap samples."""

import pytest

from ensemble.search.fit import fit
from ensemble.search.settings import SearchConfig
from ensemble.search.stability import bootstrap


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
