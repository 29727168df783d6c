"""Charts: the geometry of lines, intervals and bars, in percentages of the drawing's box.

Percentages let a drawing take any width while its text keeps its size. Colours are in the style sheet,
and the map of similarities in `heat_map`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ensemble.report.documents.curves import Curve
from ensemble.report.documents.diagnostics import Reliability
from ensemble.report.documents.run import Report, Result
from ensemble.report.documents.subclassifiers import Bar, Subclassifiers
from ensemble.report.documents.weights import Difference, SearchStep
from ensemble.report.pages.wording import Number, count_text, percent_text, points_text


@dataclass(frozen=True)
class Scale:
    """A linear axis: values from `low` to `high` are placed from 0 to 100."""

    low: Number
    high: Number

    def __call__(self, value: Number) -> float:
        """Give the position of a value."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)


@dataclass(frozen=True)
class Tick:
    """A labelled position on an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Mark:
    """A point of a line with a style of its own (`kind`), a title, and a radius in pixels; 0 is the drawing's own."""

    x: float
    y: float
    kind: str
    title: str
    radius: float = 0.0


@dataclass(frozen=True)
class LineChart:
    """A polyline with axes, and a second one to compare it with; y runs downwards, as a screen does."""

    points: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    marks: tuple[Mark, ...]
    rule: float | None = None
    diagonal: str = ""


@dataclass(frozen=True)
class Interval:
    """One row of a forest plot."""

    low: float
    at: float
    high: float
    kind: str
    title: str


@dataclass(frozen=True)
class Forest:
    """Intervals against a line at zero, by result key."""

    zero: float
    ticks: tuple[Tick, ...]
    rows: dict[str, Interval]


def nice_ticks(low: Number, high: Number, about: int = 4) -> list[float]:
    """Return round values that span low to high, in steps of 1, 2 or 5 times a power of ten."""
    span = (high - low) or abs(high) or 1.0
    raw = span / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    # At least one step, or a flat line would have no height to be drawn in.
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]


def _axis(values: Iterable[Number], about: int = 4) -> tuple[Scale, list[float]]:
    numbers = list(values)
    ticks = nice_ticks(min(numbers), max(numbers), about)
    return Scale(ticks[0], ticks[-1]), ticks


def decimals_of(ticks: Sequence[float]) -> int:
    """Give the digits behind the point that the labels of ticks need."""
    return max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))


def forest(results: Iterable[Result], digits: int) -> Forest:
    """Place the intervals of all results on one axis that holds zero."""
    differences = {r.key: r.against_best for r in results if r.against_best}
    ends = [0.0, *(end for d in differences.values() for end in (d.low, d.high))]
    scale, ticks = _axis([100 * end for end in ends])
    labels = [points_text(t / 100, decimals_of(ticks)) for t in ticks]
    return Forest(
        zero=scale(0),
        ticks=tuple(Tick(scale(t), label) for t, label in zip(ticks, labels, strict=True)),
        rows={key: _interval(d, scale, digits) for key, d in differences.items()},
    )


def _interval(d: Difference, scale: Scale, digits: int) -> Interval:
    return Interval(
        low=scale(100 * d.low),
        at=scale(100 * d.difference),
        high=scale(100 * d.high),
        kind=d.verdict,
        title=f"{points_text(d.difference, digits)} points, {percent_text(d.level, 0)} interval "
        f"{points_text(d.low, digits)} to {points_text(d.high, digits)}",
    )


def _line(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def sparkline(step: SearchStep) -> LineChart | None:
    """Draw the errors at the weights tried, from 0 to 1, and mark the weight that was kept.

    The errors have a scale of their own. A kept weight above 1 lies to the right of the curve.
    """
    errors = step.errors_by_weight
    if len(errors) < 2:
        return None
    by_weight = Scale(0, max(1, step.weight))
    y = Scale(max(errors), min(min(errors), max(errors) - 1))
    kept = Mark(
        x=by_weight(step.weight),
        y=y(step.errors),
        kind="selected" if step.selected else "rejected",
        title=f"{count_text(step.errors)} errors at the kept weight; "
        f"{count_text(min(errors))} to {count_text(max(errors))} over all weights tried",
    )
    points = ((by_weight(i / (len(errors) - 1)), y(e)) for i, e in enumerate(errors))
    return LineChart(_line(points), (), (), (kept,))


def trajectory(report: Report, digits: int) -> LineChart:
    """Draw the error on the search split after each step."""
    search = report.search
    rates = [step.errors / search.num_images for step in search.steps]
    y_scale, y_ticks = _axis([100 * rate for rate in rates])
    x = Scale(0.5, len(rates) + 0.5)
    at = [(x(i + 1), 100 - y_scale(100 * rate)) for i, rate in enumerate(rates)]
    marks = tuple(
        Mark(
            *place,
            "selected" if step.selected else "rejected",
            f"step {i + 1}: {step.member}, {percent_text(rate, digits)}",
        )
        for i, (place, step, rate) in enumerate(zip(at, search.steps, rates, strict=True))
    )
    every = math.ceil(len(rates) / 15)
    return LineChart(
        points=_line(at),
        x_ticks=tuple(Tick(x(i), str(i)) for i in range(1, len(rates) + 1, every)),
        y_ticks=_percent_ticks(y_scale, y_ticks),
        marks=marks,
    )


def training_curve(curve: Curve) -> LineChart:
    """Draw the error of each epoch in training, and that on the validation images beside it."""
    training = [100 * (1 - epoch.accuracy) for epoch in curve.epochs]
    validation = [
        100 * (1 - epoch.validation_accuracy)
        for epoch in curve.epochs
        if epoch.validation_accuracy is not None
    ]
    y_scale, y_ticks = _axis([*training, *validation])
    x = Scale(0.5, len(training) + 0.5)

    def place(errors: Sequence[float]) -> list[tuple[float, float]]:
        return [(x(i + 1), 100 - y_scale(error)) for i, error in enumerate(errors)]

    every = math.ceil(len(training) / 12)
    return LineChart(
        points=_line(place(training)),
        x_ticks=tuple(Tick(x(i), str(i)) for i in range(1, len(training) + 1, every)),
        y_ticks=_percent_ticks(y_scale, y_ticks),
        marks=tuple(
            Mark(*at, "rejected", f"epoch {i + 1}: {error:.2f}% of training images")
            for i, (at, error) in enumerate(zip(place(training), training, strict=True))
        ),
        diagonal=_line(place(validation)) if len(validation) == len(training) else "",
    )


def _percent_ticks(scale: Scale, ticks: Sequence[float]) -> tuple[Tick, ...]:
    decimals = decimals_of(ticks)
    return tuple(Tick(100 - scale(t), f"{t:.{decimals}f}%") for t in ticks)


def reliability_chart(reliability: Reliability, digits: int) -> LineChart:
    """Draw accuracy against confidence; on the diagonal answers are as sure as they are right.

    The area of a point grows with the number of its answers.
    """
    largest = max((part.images for part in reliability.bins), default=1)
    at = [(100 * part.confidence, 100 - 100 * part.accuracy) for part in reliability.bins]
    marks = tuple(
        Mark(
            round(x, 2),
            round(y, 2),
            "selected",
            f"{count_text(part.images)} answers with a mean confidence of "
            f"{percent_text(part.confidence, digits)}: {percent_text(part.accuracy, digits)} right",
            round(max(2.0, 9 * math.sqrt(part.images / largest)), 1),
        )
        for (x, y), part in zip(at, reliability.bins, strict=True)
    )
    ticks = (0.0, 25.0, 50.0, 75.0, 100.0)
    return LineChart(
        points=_line((round(x, 2), round(y, 2)) for x, y in at),
        x_ticks=tuple(Tick(t, f"{t:g}%") for t in ticks),
        y_ticks=tuple(Tick(100 - t, f"{t:g}%") for t in ticks),
        marks=marks,
        diagonal="0,100 100,0",
    )


def threshold_charts(chosen: Subclassifiers, digits: int) -> tuple[LineChart, LineChart] | None:
    """Draw accuracy and share of routed images against the gate's threshold, on one x axis."""
    if len([point for point in chosen.curve if point.threshold is not None]) < 2:
        return None
    num_images = chosen.choosing_images
    errors = [(p.threshold, 1 - p.search_errors / num_images) for p in chosen.curve]
    routed = [(p.threshold, p.routed / num_images) for p in chosen.curve]
    return (
        _threshold_chart(errors, chosen.threshold, digits),
        _threshold_chart(routed, chosen.threshold, digits),
    )


def _threshold_chart(
    rates: Sequence[tuple[float | None, float]], threshold: float | None, digits: int
) -> LineChart:
    x_scale, x_ticks = _axis((t for t, _ in rates if t is not None), 5)
    y_scale, y_ticks = _axis((100 * rate for _, rate in rates))
    # A shut gate is a threshold above every score: the right end of the axis.
    at = [(100.0 if t is None else x_scale(t), 100 - y_scale(100 * rate)) for t, rate in rates]
    decimals = decimals_of(x_ticks)
    marks = (
        Mark(*place, "selected", f"threshold {t:.3g}: {percent_text(rate, digits)}")
        for place, (t, rate) in zip(at, rates, strict=True)
        if t is not None and t == threshold
    )
    return LineChart(
        points=_line(_steps(at)),
        x_ticks=tuple(Tick(x_scale(t), f"{t:.{decimals}f}") for t in x_ticks),
        y_ticks=_percent_ticks(y_scale, y_ticks),
        marks=tuple(marks),
        rule=None if threshold is None else x_scale(threshold),
    )


def _steps(points: Sequence[tuple[float, float]]) -> Iterable[tuple[float, float]]:
    """Join points by steps: each value holds up to and including its threshold."""
    yield points[0]
    for (x, _), (next_x, y) in pairwise(points):
        yield x, y
        yield next_x, y


def accuracy_scale(chosen: Subclassifiers) -> Scale:
    """Return the axis that holds every accuracy of all label clusters; it ends at 1."""
    accuracies = [
        accuracy
        for tried in chosen.tried
        for c in tried.clusters
        for accuracy in (
            c.restricted_top1_accuracy,
            c.sub_top1_accuracy,
            c.restricted_topk_accuracy,
            c.sub_topk_accuracy,
        )
        if accuracy is not None
    ]
    return Scale(min(math.floor(10 * min(accuracies, default=0)) / 10, 0.9), 1)


@dataclass(frozen=True)
class ClassBars:
    """One bar for each class, as high as its logit lies above the lowest.

    Attributes:
        paths: Style and path of the bars of this style.
        first: Names of the five classes with the highest logits.
    """

    paths: tuple[tuple[str, str], ...]
    first: tuple[str, ...]


def class_bars(bars: Sequence[Bar], label: int, classes: Sequence[str]) -> ClassBars:
    """Draw logits up to a constant, and name the five highest. Source: P2, Figs. 3 and 4."""
    low = min(bar.value for bar in bars)
    high = max(bar.value for bar in bars)
    y = Scale(low - 0.04 * (high - low or 1.0), high if high > low else low + 1)
    order = sorted(bars, key=lambda bar: (-bar.value, bar.label))
    styles = {order[0].label: "answer"} | {label: "label"}
    paths: dict[str, str] = dict.fromkeys(("", "answer", "label"), "")
    step = 100 / len(bars)
    for i, bar in enumerate(bars):
        width, height = 0.8 * step, y(bar.value)
        left = round(i * step + 0.1 * step, 3)
        paths[styles.get(bar.label, "")] += f"M{left:g} 100v{-height:g}h{width:.4g}v{height:g}z"
    first = tuple(classes[bar.label] for bar in order[:5])
    return ClassBars(tuple((kind, path) for kind, path in paths.items() if path), first)
