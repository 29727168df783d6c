"""The HTML page of a member: one self-contained file made from its document and nothing else."""

from ensemble.report.documents.member import MemberReport
from ensemble.report.pages.environment import page_environment


def render(report: MemberReport) -> str:
    """Render the page of a member: no script, nothing loaded from elsewhere, every text escaped."""
    return page_environment().get_template("member_page.html.j2").render(report=report)
