"""Which single member is best, by either objective, wherever it is shown."""

import numpy as np
import pytest

from ensemble.outranking.builder import from_columns
from ensemble.outranking.table import OutrankingTable
from ensemble.search.comparison import predictors
from ensemble.search.fit import fit
from ensemble.search.settings import Objective, SearchConfig
from ensemble.search.weights import best_first, best_member


def _table() -> OutrankingTable:
    """A member that is seldom wrong but then sure of it, and one that is wrong more often but mildly."""
    labels = np.zeros(20, dtype=np.int64)
    sure = np.tile([0.6, 0.4], (20, 1))
    sure[:2] = [1e-8, 1 - 1e-8]
    mild = np.tile([0.9, 0.1], (20, 1))
    mild[:4] = [0.45, 0.55]
    return from_columns({"sure": np.log(sure), "mild": np.log(mild)}, labels)


@pytest.mark.parametrize(
    ("objective", "best"), [("top_k", "sure"), ("top_1", "sure"), ("nll", "mild")]
)
def test_the_search_and_the_comparison_have_the_same_best_member(
    objective: Objective, best: str
) -> None:
    table, config = _table(), SearchConfig(kind="uniform", objective=objective)
    assert table.member_names[best_member(table, config)] == best
    assert fit(table, config.model_copy(update={"kind": "best"})).selected == (best,)
    rows = {row.key: row.ensemble for row in predictors(table, config, fit(table, config))}
    assert rows["best"].selected == (best,)


def test_a_k_that_is_not_counted_does_not_choose_the_best_member() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 50, 6))
    logs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    table = from_columns({f"m{i}": column for i, column in enumerate(logs)}, rng.integers(0, 6, 50))
    top_1 = SearchConfig(objective="top_1", k=1)
    assert best_member(table, SearchConfig(objective="top_1", k=5)) == best_member(table, top_1)


def test_of_equal_members_the_cheaper_is_better_then_the_first() -> None:
    logs = np.log(np.tile([0.6, 0.4], (5, 1)))
    labels = np.zeros(5, dtype=np.int64)
    table = from_columns({"a": logs, "b": logs, "c": logs}, labels)
    assert best_first(table, SearchConfig()).tolist() == [0, 1, 2]
    costs = {"a": 3.0, "b": 1.0, "c": 2.0}
    assert best_first(table, SearchConfig(costs=costs)).tolist() == [1, 2, 0]
