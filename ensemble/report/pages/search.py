"""The HTML page of a search: one self-contained file made from search-report.json and nothing else."""

from ensemble.report.documents.search import SearchReport
from ensemble.report.pages import wording
from ensemble.report.pages.advice import search_advice
from ensemble.report.pages.diagnostics import diagnostics
from ensemble.report.pages.environment import page_environment


def render(report: SearchReport) -> str:
    """Render the page of a search: no script, nothing loaded from elsewhere, every text escaped."""
    digits = wording.digits_for(max(report.search_images, report.judged_images))
    rows = {row.key: row for row in report.results}
    recommended = report.recommendation.key if report.recommendation else "ensemble"
    members = wording.by_weight(report.members)
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
            members=members,
            exponents=wording.exponents(report.members, report.scale)
            if report.combine == "logs"
            else {},
            contents=_contents(report),
            **diagnostics(
                report.agreement,
                report.errors_by_class,
                report.reliability,
                [member.name for member in members],
                digits,
            ),
        )
    )


def _contents(report: SearchReport) -> list[tuple[str, str]]:
    """List the sections that the page has, by id and title."""
    sections = (
        ("warnings", "What to know first", report.warnings),
        ("results", "Results", True),
        ("agreement", "Agreement of members", report.agreement),
        ("classes", "Errors by class", report.errors_by_class),
        ("calibration", "Calibration", report.reliability),
        ("why", "Why each member", True),
        ("frontier", "Error against cost", report.frontier),
        ("fallbacks", "If a member is lost", report.fallbacks),
        ("provenance", "How this was computed", True),
    )
    return [(id_, title) for id_, title, is_there in sections if is_there]
