"""The pages of nightly evaluation: the index of a suite with its trends, and one page a night. No script, no CDN."""

from collections.abc import Sequence
from dataclasses import dataclass

from ensemble.report.pages.charts import Scale, Tick, decimals_of, nice_ticks
from ensemble.report.pages.environment import page_environment

# A trend is drawn of the last nights; a line of more cannot be read.
MOST_NIGHTS = 120


@dataclass(frozen=True)
class Point:
    """One night of a trend.

    Attributes:
        label: Date of the night.
        value: The figure; None where the night has none.
        low: Lower end of its interval.
        high: Upper end of its interval.
        verdict: Verdict against the accepted baseline.
        is_new: Whether what is deployed differs from the night before.
        number: Number of the night's record.
    """

    label: str
    value: float | None
    low: float | None
    high: float | None
    verdict: str
    is_new: bool
    number: int


@dataclass(frozen=True)
class Rule:
    """A horizontal line of a chart, as a baseline or the least loss that matters."""

    value: float
    kind: str
    title: str


@dataclass(frozen=True)
class Series:
    """One line of a chart; None where a night has no value.

    Attributes:
        name: Name in the legend.
        kind: Style in the style sheet.
        values: A value a night.
    """

    name: str
    kind: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class Trend:
    """A chart of one figure over the nights, ready to be drawn; positions are percentages."""

    title: str
    legend: str
    lines: tuple[tuple[str, str], ...]
    band: str
    rules: tuple[tuple[float, str, str], ...]
    versions: tuple[float, ...]
    marks: tuple[tuple[float, float, str, str], ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class AlertLine:
    """An alert as the index lists it."""

    key: str
    state: str
    text: str


@dataclass(frozen=True)
class RowLine:
    """A row as the index lists it: verdict of the last night, figures, and its trends."""

    name: str
    owner: str
    verdict: str
    figures: tuple[tuple[str, str], ...]
    trends: tuple[Trend, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class NightLink:
    """A night in the list of all nights."""

    number: int
    date: str
    verdict: str
    href: str


@dataclass(frozen=True)
class IndexView:
    """Everything that the index shows."""

    suite: str
    status: str
    status_kind: str
    budget: str
    alerts: tuple[AlertLine, ...]
    rows: tuple[RowLine, ...]
    nights: tuple[NightLink, ...]


@dataclass(frozen=True)
class ComparisonLine:
    """A comparison as the page of a night lists it."""

    metric: str
    value: str
    verdict: str
    text: str


@dataclass(frozen=True)
class ImageTile:
    """An image whose error came or went."""

    image_id: str
    png_base64: str | None
    label: str
    before: str
    after: str
    is_wrong: bool


@dataclass(frozen=True)
class NightRow:
    """A row on the page of its night."""

    name: str
    error: str
    verdict: str
    comparisons: tuple[ComparisonLine, ...]
    blame: tuple[tuple[str, str, float, tuple[str, ...]], ...]
    worse: tuple[str, ...]
    classes: tuple[tuple[str, int, int, int], ...]
    clusters: tuple[tuple[str, int, int, int], ...]
    images: tuple[ImageTile, ...]
    conditions: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class NightView:
    """Everything that the page of a night shows."""

    suite: str
    date: str
    number: int
    verdict: str
    lead: str
    rows: tuple[NightRow, ...]


def render_index(view: IndexView) -> str:
    """Render the index of a suite."""
    return _render("nightly_index.html.j2", view)


def render_night(view: NightView) -> str:
    """Render the page of a night."""
    return _render("nightly_night.html.j2", view)


def draw(
    title: str,
    points: Sequence[Point],
    series: Sequence[Series],
    rules: Sequence[Rule],
    unit: str,
    factor: float,
) -> Trend:
    """Draw lines over nights, with the interval band of the points, baselines, and where the ensemble changed.

    Args:
        title: Title of the chart.
        points: The nights; their intervals are the band, and their verdicts the marks of the first line.
        series: Lines, in figures.
        rules: Horizontal lines, in figures.
        unit: Unit that is written behind the values of the axis.
        factor: What figures are multiplied by to be in that unit.
    """
    points = points[-MOST_NIGHTS:]
    lines = [(line, list(line.values)[-MOST_NIGHTS:]) for line in series]
    band = [(p.low, p.high) for p in points if p.low is not None and p.high is not None]
    values = [v for _, values in lines for v in values if v is not None]
    values += [end for pair in band for end in pair] + [rule.value for rule in rules]
    ticks = nice_ticks(factor * min(values, default=0.0), factor * max(values, default=1.0))
    y = Scale(ticks[0], ticks[-1])
    # A night stands in the middle of its part of the axis, so that a single one can be seen.
    x = Scale(-0.5, len(points) - 0.5)
    decimals = decimals_of(ticks)
    every = max(1, -(-len(points) // 4))

    def at(value: float) -> float:
        return round(100 - y(factor * value), 2)

    first = lines[0][1] if lines else []
    upper = [(x(i), at(p.high)) for i, p in enumerate(points) if p.high is not None]
    lower = [(x(i), at(p.low)) for i, p in enumerate(points) if p.low is not None]
    return Trend(
        title=title,
        legend=", ".join(line.name for line in series),
        lines=tuple(
            (
                line.kind,
                " ".join(f"{x(i):g},{at(v):g}" for i, v in enumerate(numbers) if v is not None),
            )
            for line, numbers in lines
        ),
        band=" ".join(f"{a:g},{b:g}" for a, b in [*upper, *reversed(lower)]) if band else "",
        rules=tuple((at(rule.value), rule.kind, rule.title) for rule in rules),
        versions=tuple(x(i) for i, point in enumerate(points) if point.is_new and i),
        marks=tuple(
            (
                x(i),
                at(value),
                point.verdict,
                f"{point.label}: {factor * value:.{decimals + 1}f} {unit}, {point.verdict.replace('_', ' ')}",
            )
            for i, (point, value) in enumerate(zip(points, first, strict=True))
            if value is not None
        ),
        x_ticks=tuple(Tick(x(i), p.label[5:]) for i, p in enumerate(points) if not i % every),
        y_ticks=tuple(Tick(round(100 - y(t), 2), f"{t:.{decimals}f}") for t in ticks),
    )


def _render(template: str, view: object) -> str:
    # The foot of every page names the version of the documents that it is made from.
    report = {"schema_version": 1}
    return page_environment().get_template(template).render(view=view, report=report)
