"""The three lines on what to make of the results."""

from collections.abc import Callable

import pytest

from ensemble.report.documents.run import Report
from ensemble.report.documents.weights import Recommendation
from ensemble.report.pages.advice import run_advice
from ensemble.report.pages.run import render

MakeReport = Callable[..., Report]


def advised(report: Report, chosen: str, answers: str) -> Report:
    results = tuple(
        result.model_copy(update={"chosen": result.key == chosen, "answers": result.key == answers})
        for result in report.results
    )
    recommendation = Recommendation(key=chosen, reason="It errs least.", held_out=())
    return report.model_copy(update={"results": results, "recommendation": recommendation})


def test_a_report_of_an_earlier_version_has_no_advice(report: Report) -> None:
    assert report.recommendation is None
    assert run_advice(report) == ()


def test_the_lines_say_which_row_why_what_the_test_split_says_and_what_to_do(
    report: Report,
) -> None:
    why, on_test, then = run_advice(advised(report, "ensemble", "ensemble"))
    chosen = report.results[3]
    assert why == f"Recommended: {chosen.label}. It errs least."
    assert f"{chosen.score.n} test images it has a top-1 error of {17 / 897:.2%}" in on_test
    assert "0.89 points less" in on_test
    assert "p = 0.021: significant) than the best member" in on_test
    assert f'ensemble.predictor.load("runs/{report.name}/ensemble")' in then


def test_a_difference_that_the_test_does_not_confirm_is_called_not_significant(
    report: Report,
) -> None:
    _, on_test, _ = run_advice(advised(report, "uniform_all", "uniform_all"))
    assert "0.22 points more" in on_test
    assert "not significant) than the best member" in on_test


@pytest.mark.parametrize("chosen", ["best", "uniform_selected"])
def test_an_artifact_of_a_search_that_was_asked_for_is_told_from_what_is_recommended(
    report: Report, chosen: str
) -> None:
    _, _, then = run_advice(advised(report, chosen, "ensemble"))
    assert "the artifact answers with Weighted ensemble, because search.kind=paper" in then
    assert "Leave search.kind out" in then


def test_the_page_has_the_same_lines_as_the_terminal(report: Report) -> None:
    chosen = advised(report, "ensemble", "ensemble")
    page = render(chosen)
    assert 'class="advice"' in page
    assert run_advice(chosen)[0] in page
