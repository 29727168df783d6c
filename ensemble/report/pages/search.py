"""The HTML page of a search: one self-contained file made from search-report.json and nothing else."""

from functools import cache

from jinja2 import Environment

from ensemble.report.documents.search import SearchReport
from ensemble.report.pages import wording
from ensemble.report.pages.environment import page_environment


def render(report: SearchReport) -> str:
    """Render the page: no script, nothing loaded from elsewhere, every text escaped."""
    digits = wording.digits_for(max(report.search_images, report.judged_images))
    rows = {row.key: row for row in report.results}
    return (
        _environment()
        .get_template("search_page.html.j2")
        .render(
            report=report,
            digits=digits,
            ensemble=rows["ensemble"],
            best=rows["best"],
            members=sorted(report.members, key=lambda m: (-m.weight, m.errors, m.name)),
        )
    )


@cache
def _environment() -> Environment:
    environment = page_environment()
    environment.filters |= {
        "percent": wording.percent_text,
        "points": wording.points_text,
        "count": wording.count_text,
        "weight": wording.weight_text,
        "p": wording.p_text,
        "seconds": wording.seconds_text,
        "cost": wording.cost_text,
        "short": lambda value: f"{value:.3g}",
    }
    return environment
