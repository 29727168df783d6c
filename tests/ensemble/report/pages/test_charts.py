from itertools import pairwise

import pytest

from ensemble.report.documents.run import Report
from ensemble.report.documents.subclassifiers import Bar
from ensemble.report.pages.charts import (
    Scale,
    class_bars,
    forest,
    nice_ticks,
    sparkline,
    threshold_charts,
    trajectory,
)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (-1.8, 1.1, [-2, -1, 0, 1, 2]),
        (0, 100, [0, 50, 100]),
        (0, 0, [0, 0.5]),
        (2.2, 2.2, [2, 3]),
        (1.6, 2.8, [1.5, 2, 2.5, 3]),
    ],
)
def test_ticks_are_round_and_span_the_values(low: float, high: float, ticks: list[float]) -> None:
    assert nice_ticks(low, high) == ticks


def test_a_scale_may_run_backwards() -> None:
    assert [Scale(10, 0)(value) for value in (10, 5, 0)] == [0, 50, 100]


def test_the_forest_holds_zero_and_every_interval(report: Report) -> None:
    drawn = forest(report.results, digits=1)
    assert [tick.label for tick in drawn.ticks if tick.at == drawn.zero] == ["0"]
    assert "best" not in drawn.rows
    for row in drawn.rows.values():
        assert 0 <= row.low <= row.at <= row.high <= 100
    assert drawn.rows["ensemble"].high < drawn.zero


def test_the_kept_weight_lies_on_its_curve(report: Report) -> None:
    for step in report.search.steps[1:]:
        drawn = sparkline(step)
        assert drawn is not None
        places = [tuple(map(float, point.split(","))) for point in drawn.points.split()]
        assert len(places) == 101
        assert (drawn.marks[0].x, drawn.marks[0].y) in places


def test_a_step_that_tried_no_weight_has_no_curve(report: Report) -> None:
    assert sparkline(report.search.steps[0]) is None


def test_the_trajectory_has_a_point_for_each_step(report: Report) -> None:
    drawn = trajectory(report, digits=1)
    assert len(drawn.points.split()) == len(drawn.marks) == 13
    assert sum(mark.kind == "selected" for mark in drawn.marks) == 5
    assert drawn.marks[0].title.startswith("step 1: resnet20, 2.8")


def test_thresholds_are_drawn_as_steps(report: Report) -> None:
    assert report.subclassifiers is not None
    charts = threshold_charts(report.subclassifiers, digits=1)
    assert charts is not None
    places = [tuple(map(float, point.split(","))) for point in charts[0].points.split()]
    for (x, y), (next_x, next_y) in pairwise(places):
        assert x == next_x or y == next_y
    assert charts[0].rule == charts[0].marks[0].x


def test_a_curve_of_one_point_is_not_drawn(report: Report) -> None:
    assert report.subclassifiers is not None
    chosen = report.subclassifiers
    short = chosen.model_copy(update={"curve": chosen.curve[-2:]})
    assert threshold_charts(short, digits=1) is None


def test_the_bar_of_the_label_is_marked_and_the_highest_are_named(report: Report) -> None:
    bars = [Bar(label=k, value=float(-k)) for k in (0, 3, 1)]
    drawn = class_bars(bars, 1, report.data.classes)
    assert drawn.first == ("zero", "one", "three")
    paths = dict(drawn.paths)
    assert [paths[kind].count("M") for kind in ("answer", "label", "")] == [1, 1, 1]
    right = class_bars(bars, 0, report.data.classes)
    assert {kind for kind, _ in right.paths} == {"label", ""}


def test_equal_logits_have_bars_too(report: Report) -> None:
    drawn = class_bars([Bar(label=k, value=-1.0) for k in range(2)], 0, report.data.classes)
    assert all("nan" not in path for _, path in drawn.paths)
