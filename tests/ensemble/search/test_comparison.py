"""What every report compares an ensemble with, and what it warns of."""

import numpy as np

from ensemble.search.comparison import judge, judge_cross_fitted, predictors, warnings
from ensemble.search.crossfit import cross_fit, stratified_folds
from ensemble.search.fit import fit
from ensemble.search.recommend import recommend
from ensemble.search.settings import SearchConfig

from .pool import make_pool, make_table


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


def test_each_family_has_one_vote_that_its_members_share(table):
    names = table.member_names
    families = {name: "one" if number < 2 else name for number, name in enumerate(names)}
    config = SearchConfig(kind="line", families=families)
    ensemble = fit(table, config)
    rows = {row.key: row for row in predictors(table, config, ensemble)}
    row = rows["uniform_families"]
    assert row.label == f"uniform over {len(names) - 1} families"
    assert row.ensemble.units.tolist() == [50_000, 50_000, *[100_000] * (len(names) - 2)]
    # It is there to compare with: names of architectures decide no recommendation.
    plain = SearchConfig(kind="line")
    assert recommend(table, config, ensemble).rows == recommend(table, plain, ensemble).rows
    for alike in ({name: name for name in names}, dict.fromkeys(names, "one"), {}):
        keys = [
            r.key for r in predictors(table, SearchConfig(kind="line", families=alike), ensemble)
        ]
        assert "uniform_families" not in keys


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


def test_a_small_search_split_and_few_errors_are_warned_of(table):
    assert warnings(table, fit(table, SearchConfig(kind="paper"))) == ()
    small = make_table(*make_pool(0, images=20))
    found = " ".join(warnings(small, fit(small, SearchConfig(kind="paper"))))
    assert "20 images for 6 classes" in found
    assert "single images decide" in found


def test_broken_rows_and_ties_are_warned_of():
    logs, labels = make_pool(0)
    logs[1, :3, 0] = np.nan
    logs[2:] = logs[2]
    table = make_table(logs, labels)
    found = " ".join(warnings(table, fit(table, SearchConfig(kind="uniform"))))
    assert "m1 has NaN or infinity on 3 images" in found
