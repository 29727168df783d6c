"""Which predictor is recommended: the simplest that held-out images do not tell from the best."""

import numpy as np
import pytest

from ensemble.search.comparison import predictors
from ensemble.search.fit import fit
from ensemble.search.recommend import SIMPLEST_FIRST, answering, is_told_apart, recommend
from ensemble.search.settings import SearchConfig

from .pool import make_pool, make_table


def make_copies(images: int = 300, members: int = 4):
    """Members that are the same but for noise that changes no answer: nothing can be gained."""
    logs, labels = make_pool(3, images=images, members=1)
    noise = np.random.default_rng(0).normal(scale=1e-3, size=(members, *logs.shape[1:]))
    logs = logs[0] + noise
    logs -= np.log(np.exp(logs).sum(axis=-1, keepdims=True))
    return make_table(logs, labels)


def test_where_nothing_can_be_told_apart_the_best_member_alone_is_recommended():
    table = make_copies()
    for kind in ("auto", "caruana", "uniform"):
        config = SearchConfig(kind=kind)
        assert recommend(table, config, fit(table, config)).key == "best", kind


def test_where_members_complement_each_other_an_ensemble_is_recommended():
    table = make_table(*make_pool(5, images=800, members=8))
    config = SearchConfig(kind="caruana")
    found = recommend(table, config, fit(table, config))
    by_key = {row.key: row for row in found.rows}
    assert found.key != "best"
    assert by_key["best"].behind > by_key["best"].standard_error
    assert by_key[found.key].is_tied


def test_where_the_search_selects_every_member_the_plain_average_has_one_name():
    table = make_table(*make_pool(5, images=800, members=8))
    config = SearchConfig(kind="uniform")
    assert recommend(table, config, fit(table, config)).key == "uniform_all"


def test_the_recommended_row_is_the_simplest_of_those_that_are_tied(table):
    for kind in ("paper", "likelihood"):
        for objective in ("top_k", "nll"):
            config = SearchConfig(kind=kind, objective=objective)
            found = recommend(table, config, fit(table, config))
            tied = {row.key for row in found.rows if row.is_tied}
            assert found.key == next(key for key in SIMPLEST_FIRST if key in tied)
            assert min(row.behind for row in found.rows) == 0
            assert found == recommend(table, config, fit(table, config))


def test_no_row_beyond_the_caps_is_recommended_and_the_reason_says_so():
    table = make_copies()
    best = predictors(table, SearchConfig(), fit(table, SearchConfig()))[0].ensemble.selected[0]
    costs = {name: 100.0 if name == best else 1.0 for name in table.member_names}
    config = SearchConfig(costs=costs, max_cost=2.0)
    found = recommend(table, config, fit(table, config))
    assert found.key in ("uniform_selected", "ensemble")
    assert f"best member ({best}) is beyond the caps of the search" in found.reason
    assert not next(row for row in found.rows if row.key == "uniform_all").is_allowed


def test_the_reason_has_the_figures_of_the_rows(table):
    config = SearchConfig(kind="uniform")
    found = recommend(table, config, fit(table, config))
    row = next(row for row in found.rows if row.key == found.key)
    assert f"{row.error:.2%}" in found.reason
    assert "300 search images held out in turn" in found.reason


def test_an_artifact_answers_with_what_is_recommended_unless_the_settings_name_a_search():
    table = make_copies()
    for kind, key in (("auto", "best"), ("paper", "ensemble")):
        config = SearchConfig(kind=kind)
        ensemble = fit(table, config)
        rows = predictors(table, config, ensemble)
        assert answering(rows, recommend(table, config, ensemble), config).key == key


def test_too_few_images_to_compare_on_get_the_simplest():
    logs, labels = make_pool(0, images=9)
    table = make_table(logs, labels)
    found = recommend(table, SearchConfig(kind="paper"), fit(table, SearchConfig(kind="paper")))
    assert (found.key, found.rows) == ("best", ())
    assert "9 search images are too few" in found.reason


@pytest.mark.parametrize(
    ("fixed", "broken", "expected"),
    [
        (0, 0, False),
        (1, 0, False),
        (2, 0, False),
        (3, 0, True),
        (6, 2, True),
        (5, 3, False),
        (0, 5, False),
    ],
)
def test_a_margin_is_more_than_one_standard_error(fixed: int, broken: int, expected: bool):
    simpler, wrong = np.zeros(200, np.bool_), np.zeros(200, np.bool_)
    simpler[:fixed] = True
    wrong[100 : 100 + broken] = True
    assert is_told_apart(wrong, simpler) == expected


def test_no_images_tell_nothing_apart():
    assert not is_told_apart(np.zeros(0, np.bool_), np.zeros(0, np.bool_))
