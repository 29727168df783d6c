"""Why each member has its weight."""

import numpy as np
import pytest

from ensemble.search.explain import explain
from ensemble.search.fit import fit
from ensemble.search.settings import SearchConfig


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
