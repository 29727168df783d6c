"""The HTML page of a distillation: one self-contained file made from distil.json and nothing else."""

from ensemble.report.documents.distil import DistilReport
from ensemble.report.pages import wording
from ensemble.report.pages.charts import training_curve
from ensemble.report.pages.environment import page_environment


def render(report: DistilReport) -> str:
    """Render the page of a distillation: no script, nothing loaded from elsewhere, every text escaped."""
    return (
        page_environment()
        .get_template("distil_page.html.j2")
        .render(
            report=report,
            charts=[(curve.name, training_curve(curve)) for curve in report.curves],
            digits=wording.digits_for(report.test_images),
        )
    )
