import json
import math
from io import StringIO
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ensemble.errors import ConfigError
from jobs.benchmark.report import (
    Bar,
    BenchmarkConfig,
    BenchmarkReport,
    finish,
    read_config,
    step_printer,
)

FAST, SLOW = Bar("ratio of speeds", 2.0, ">=", 1.5), Bar("seconds", 3.0, "<=", 2.0)


class SmallConfig(BenchmarkConfig):
    full_size: ClassVar = {"images": 100, "repeats": 5}
    images: int = 10
    repeats: int = 1
    out: Path = Path("small.json")


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_a_bar_holds_at_its_own_figure_and_on_one_side(measured: float, bar: float) -> None:
    assert Bar("x", bar, "<=", bar).is_met
    assert Bar("x", bar, ">=", bar).is_met
    sides = [Bar("x", measured, "<=", bar).is_met, Bar("x", measured, ">=", bar).is_met]
    assert sides.count(True) == (2 if measured == bar else 1)


def test_a_figure_that_is_no_number_meets_no_bar() -> None:
    assert not Bar("x", math.nan, "<=", 1).is_met
    assert not Bar("x", math.nan, ">=", 1).is_met


def test_the_last_line_says_whether_the_bars_are_met(tmp_path: Path) -> None:
    for bars, last in (
        ((FAST,), "met: 1 of 1 bars."),
        ((FAST, SLOW), "NOT met: 1 of 2 bars: seconds: 3 (bar <= 2)."),
        ((), "NOT met: nothing was judged."),
    ):
        console = Console(file=StringIO(), record=True, width=80)
        report = finish(BenchmarkReport({}, bars, {}), tmp_path / "out.json", console)
        assert console.export_text().splitlines()[-1] == last
        assert report.is_met == last.startswith("met")


def test_the_document_has_bars_figures_and_the_machine(tmp_path: Path) -> None:
    report = BenchmarkReport(
        {"images": 3}, (FAST, SLOW), {"seconds": [1.0]}, ("A part is missing.",)
    )
    console = Console(file=StringIO(), record=True)
    finish(report, tmp_path / "new" / "out.json", console)
    document = json.loads((tmp_path / "new" / "out.json").read_text())
    assert set(document) == {
        "schema_version",
        "settings",
        "machine",
        "bars",
        "figures",
        "left_out",
    }
    assert document["bars"][1] == {
        "name": "seconds",
        "measured": 3.0,
        "compare": "<=",
        "bar": 2.0,
        "is_met": False,
    }
    assert document["machine"]["cores"] >= 1
    assert {"platform", "processor", "python", "numpy", "torch", "ray"} < set(document["machine"])
    assert "left out: A part is missing." in console.export_text()


def test_words_go_before_the_full_size_and_that_before_the_defaults() -> None:
    assert read_config(SmallConfig, [], is_full=False) == SmallConfig()
    assert read_config(SmallConfig, [], is_full=True) == SmallConfig(images=100, repeats=5)
    words = ["repeats=2"]
    assert read_config(SmallConfig, words, is_full=True) == SmallConfig(images=100, repeats=2)
    with pytest.raises(ConfigError, match="Did you mean 'images'"):
        read_config(SmallConfig, ["image=3"], is_full=False)


def test_steps_are_printed_as_they_begin() -> None:
    console = Console(file=StringIO(), record=True)
    begin = step_printer(console)
    begin("round 1 of 2: [build]")
    begin("round 2 of 2")
    lines = console.export_text().splitlines()
    assert [line.partition(" s  ")[2] for line in lines] == [
        "round 1 of 2: [build]",
        "round 2 of 2",
    ]
