"""The HTML page of a run: one self-contained file made from the report and nothing else."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from ensemble.report.documents.run import Example, Report
from ensemble.report.pages import charts as figures
from ensemble.report.pages import wording
from ensemble.report.pages.environment import page_environment

SHOWN_CLASSES = 3


@dataclass(frozen=True)
class ExampleRow:
    """One class of an example with its probability before and after."""

    name: str
    before: float
    after: float
    is_label: bool


def render(report: Report) -> str:
    """Render the page: no script, nothing loaded from elsewhere, every text escaped."""
    digits = wording.digits_for(max(report.best.score.n, report.search.num_images))
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            report=report,
            digits=digits,
            verdict=wording.verdict(report),
            search_words=wording.search_words(report.search),
            members=sorted(report.members, key=lambda m: (m.search.top1_error, m.name)),
            member_lines=sorted(report.search.members, key=lambda m: (-m.weight, m.errors, m.name)),
            worst=max(max(m.search.top1_error, m.test.top1_error) for m in report.members) or 1.0,
            example_rows=[
                example_rows(example, report.data.classes) for example in report.examples
            ],
            **_drawings(report, digits),
        )
    )


def _drawings(report: Report, digits: int) -> dict[str, Any]:
    chosen = report.subclassifiers
    return {
        "forest": figures.forest(report.results, digits),
        "trajectory": figures.trajectory(report, digits) if report.search.steps else None,
        "sparklines": [figures.sparkline(step) for step in report.search.steps],
        "charts": chosen and figures.threshold_charts(chosen, digits),
        "accuracy": chosen and figures.accuracy_scale(chosen),
        "class_bars": figures.class_bars,
        "gate_words": wording.GATES,
        "routing_words": wording.ROUTINGS,
        "similarity_words": wording.SIMILARITIES,
        "heat_map": chosen and figures.heat_map(report, chosen),
    }


def example_rows(example: Example, classes: tuple[str, ...]) -> list[ExampleRow]:
    """Pick the classes worth showing: the label, both answers, then the most probable."""
    before, after = example.before.probabilities, example.after.probabilities
    by_mass = sorted(range(len(classes)), key=lambda k: -max(before[k], after[k]))
    named = dict.fromkeys((example.label, example.before.answer, example.after.answer, *by_mass))
    shown = sorted(list(named)[:SHOWN_CLASSES], key=by_mass.index)
    return [ExampleRow(classes[k], before[k], after[k], k == example.label) for k in shown]


def _with_value(text: Callable[..., str]) -> Callable[..., Markup]:
    return lambda value, *settings: wording.figure(value, text(value, *settings))


@cache
def _environment() -> Environment:
    environment = page_environment()
    for name in (
        "percent",
        "points",
        "count",
        "weight",
        "p",
        "seconds",
        "large",
        "threshold",
        "rate",
        "cost",
    ):
        text = getattr(wording, f"{name}_text")
        environment.filters[f"{name}_text"] = text
        environment.filters[name] = _with_value(text)
    environment.filters["short"] = lambda value: f"{value:.3g}"
    environment.filters["plain"] = wording.plain
    environment.filters["moment"] = wording.moment_text
    environment.filters["decimal"] = lambda value, n: wording.figure(value, f"{value:.{n}f}")
    return environment
