"""The page of a study: every row and reason, escaped, and nothing loaded from elsewhere."""

from ensemble.report.documents.study import (
    BaseDifference,
    SeedMean,
    StudyReport,
    StudyRow,
    StudyStage,
)
from ensemble.report.pages.study import render


def _row(name: str, **changes: object) -> StudyRow:
    figures = {
        "validation": SeedMean(mean=0.25, sd=0.01),
        "test": SeedMean(mean=0.3, sd=0.02),
        "seconds": 12.0,
        "chosen_share": 0.5,
    }
    return StudyRow.model_validate(
        {"name": name, "architecture": "net", "settings": {}, "parameters": 1234, "n": 3}
        | figures
        | changes
    )


def test_a_page_has_every_row_and_escapes_reasons() -> None:
    against = BaseDifference(difference=-0.02, low=-0.04, high=0.0, level=0.95, detectable=0.03)
    broken = {"validation": None, "test": None, "seconds": None, "chosen_share": None, "n": 0}
    rows = (
        _row("base"),
        _row("wider", against_base=against, is_winner=True),
        _row("both", adds_validation=True, validation=None, chosen_share=None),
        _row("broken", reason="a <script> failed", **broken),
    )
    report = StudyReport(
        name="s",
        scale="small",
        images="digits",
        validation_images=200,
        test_images=300,
        seeds=3,
        max_parameters=2000,
        resamples=100,
        stages=(StudyStage(name="first", keeps_base=False, rows=rows),),
    )
    page = render(report)
    assert all(row.name in page for row in rows)
    assert "a &lt;script&gt; failed" in page
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "small" in page
    assert page.count("trained on") == 1
