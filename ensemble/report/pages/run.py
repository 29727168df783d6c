"""The HTML page of a run: one self-contained file made from the report and nothing else."""

from dataclasses import dataclass
from typing import Any

from ensemble.report.documents.run import Example, Report
from ensemble.report.pages import charts, wording
from ensemble.report.pages.advice import run_advice
from ensemble.report.pages.diagnostics import diagnostics
from ensemble.report.pages.environment import page_environment
from ensemble.report.pages.heat_map import heat_map

SHOWN_CLASSES = 3


@dataclass(frozen=True)
class ExampleRow:
    """One class of an example with its probability before and after."""

    name: str
    before: float
    after: float
    is_label: bool


def render(report: Report) -> str:
    """Render the page of a run: no script, nothing loaded from elsewhere, every text escaped."""
    digits = wording.digits_for(max(report.best.score.n, report.search.num_images))
    return (
        page_environment()
        .get_template("page.html.j2")
        .render(
            report=report,
            digits=digits,
            verdict=wording.verdict(report),
            search_words=wording.search_words(report.search),
            advice=run_advice(report),
            members=sorted(report.members, key=lambda m: (report.error(m.search), m.name)),
            member_lines=wording.by_weight(report.search.members),
            worst=max(report.error(score) for m in report.members for score in (m.search, m.test))
            or 1.0,
            example_rows=[
                example_rows(example, report.data.classes, report.k) for example in report.examples
            ],
            data_text=wording.data_text(report.execution.images, report.data.source),
            exponents=wording.exponents(report.search.members, report.search.scale)
            if report.search.combine == "logs"
            else {},
            contents=_contents(report),
            **diagnostics(
                report.agreement,
                report.errors_by_class,
                report.reliability,
                _names_by_weight(report),
                digits,
            ),
            **_drawings(report, digits),
        )
    )


def _names_by_weight(report: Report) -> list[str]:
    members = sorted(report.members, key=lambda m: (-m.weight, report.errors(m.test), m.name))
    return [member.name for member in members]


def _contents(report: Report) -> list[tuple[str, str]]:
    """List the sections that the page has, by id and title."""
    sections = (
        ("warnings", "What to know first", report.search.warnings),
        ("results", "Results", True),
        ("members", "Members", True),
        ("training", "Training", report.curves),
        ("agreement", "Agreement of members", report.agreement),
        ("classes", "Errors by class", report.errors_by_class),
        ("calibration", "Calibration", report.reliability),
        ("search", "Weights and trajectory", True),
        ("subclassifiers", "Label clusters and sub-classifiers", True),
        ("examples", "Answers that changed", True),
        ("provenance", "How this was computed", True),
    )
    return [(id_, title) for id_, title, is_there in sections if is_there]


def _drawings(report: Report, digits: int) -> dict[str, Any]:
    chosen = report.subclassifiers
    return {
        "forest": charts.forest(report.results, digits),
        "trajectory": charts.trajectory(report, digits) if report.search.steps else None,
        "sparklines": [charts.sparkline(step) for step in report.search.steps],
        "curves": [(curve, charts.training_curve(curve)) for curve in report.curves],
        "charts": chosen and charts.threshold_charts(chosen, digits),
        "accuracy": chosen and charts.accuracy_scale(chosen),
        "class_bars": charts.class_bars,
        "gate_words": wording.GATES,
        "routing_words": wording.ROUTINGS,
        "similarity_words": wording.SIMILARITIES,
        "heat_map": chosen and heat_map(report, chosen),
    }


def example_rows(example: Example, classes: tuple[str, ...], k: int = 1) -> list[ExampleRow]:
    """Pick the classes worth showing: the label, both answers, then the most probable; more for a larger k."""
    before, after = example.before.probabilities, example.after.probabilities
    by_mass = sorted(range(len(classes)), key=lambda k: -max(before[k], after[k]))
    ordered = dict.fromkeys((example.label, example.before.answer, example.after.answer, *by_mass))
    first = sorted(list(ordered)[: max(SHOWN_CLASSES, k + 1)], key=by_mass.index)
    return [ExampleRow(classes[k], before[k], after[k], k == example.label) for k in first]
