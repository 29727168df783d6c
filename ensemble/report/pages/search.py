"""The HTML page of a search: one self-contained file made from search-report.json and nothing else."""

from ensemble.report.documents.search import SearchReport
from ensemble.report.pages import wording
from ensemble.report.pages.advice import search_advice
from ensemble.report.pages.environment import page_environment


def render(report: SearchReport) -> str:
    """Render the page of a search: no script, nothing loaded from elsewhere, every text escaped."""
    digits = wording.digits_for(max(report.search_images, report.judged_images))
    rows = {row.key: row for row in report.results}
    recommended = report.recommendation.key if report.recommendation else "ensemble"
    return (
        page_environment()
        .get_template("search_page.html.j2")
        .render(
            report=report,
            digits=digits,
            ensemble=rows["ensemble"],
            best=rows["best"],
            recommended=recommended,
            headline=next(row for row in report.results if row.key == recommended),
            advice=search_advice(report),
            members=wording.by_weight(report.members),
        )
    )
