"""The HTML page of a study: one self-contained file made from study.json and nothing else."""

from ensemble.report.documents.study import StudyReport
from ensemble.report.pages import wording
from ensemble.report.pages.charts import training_curve
from ensemble.report.pages.environment import page_environment


def render(report: StudyReport) -> str:
    """Render the page of a study: no script, nothing loaded from elsewhere, every text escaped."""
    charts = {
        stage.name: [(curve.name, training_curve(curve)) for curve in stage.curves]
        for stage in report.stages
    }
    contents = [(f"stage-{i}", stage.name) for i, stage in enumerate(report.stages, 1)]
    digits = wording.digits_for(min(report.validation_images, report.test_images))
    return (
        page_environment()
        .get_template("study_page.html.j2")
        .render(report=report, charts=charts, contents=contents, digits=digits)
    )
