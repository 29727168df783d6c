import pytest
from pydantic import ValidationError

from ensemble.report.documents.run import Report, Score
from ensemble.report.documents.weights import Difference


def test_a_report_survives_json(report: Report) -> None:
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_what_differs_between_two_runs_is_not_reproducible_content(report: Report) -> None:
    slower = report.execution.model_copy(update={"seconds_total": 1e4, "host": "another"})
    rerun = report.model_copy(update={"execution": slower})
    assert rerun != report
    assert rerun.reproducible() == report.reproducible()
    assert "execution" not in report.reproducible()


def test_another_schema_version_is_refused(report: Report) -> None:
    with pytest.raises(ValidationError, match="schema_version"):
        Report.model_validate({**report.model_dump(), "schema_version": 2})


def test_an_unknown_key_is_refused(report: Report) -> None:
    with pytest.raises(ValidationError, match="winner"):
        Report.model_validate({**report.model_dump(), "winner": "resnet20"})


def test_rates_follow_from_counts() -> None:
    score = Score.of(n=897, top1_errors=17, topk_errors=2, nll=0.1)
    assert (score.top1_error, score.topk_error) == (17 / 897, 2 / 897)
    with pytest.raises(ValidationError, match=r"top-1: 18 errors of 897 are not a rate of 0\.01"):
        Score.model_validate({**score.model_dump(), "top1_errors": 18})


def test_a_report_holds_no_nan() -> None:
    with pytest.raises(ValidationError, match="nll"):
        Score.of(n=10, top1_errors=1, topk_errors=0, nll=float("nan"))


@pytest.mark.parametrize(
    ("low", "high", "p", "verdict"),
    [
        (-0.016, -0.002, 0.01, "better"),
        (-0.016, -0.002, 0.125, "undecided"),
        (-0.016, 0.0, 0.01, "undecided"),
        (-0.01, 0.02, 0.5, "undecided"),
        (0.001, 0.02, 0.02, "worse"),
    ],
)
def test_interval_and_exact_test_must_agree(
    low: float, high: float, p: float, verdict: str
) -> None:
    d = Difference(
        difference=(low + high) / 2,
        low=low,
        high=high,
        level=0.95,
        resamples=100,
        mcnemar_p=p,
        fixed=1,
        broken=1,
    )
    assert d.verdict == verdict


def test_a_difference_is_the_broken_less_the_fixed_images(report: Report) -> None:
    dump = report.chosen.model_dump()
    dump["against_best"]["fixed"] += 1
    with pytest.raises(ValidationError, match="5 broken less 14 fixed of 897"):
        type(report.chosen).model_validate(dump)


def test_exactly_one_result_is_chosen(report: Report) -> None:
    results = [{**result.model_dump(), "chosen": False} for result in report.results]
    with pytest.raises(ValidationError, match="exactly one result is chosen"):
        Report.model_validate({**report.model_dump(), "results": results})


def test_every_result_but_the_best_member_is_compared_with_it(report: Report) -> None:
    results = [{**result.model_dump(), "against_best": None} for result in report.results]
    with pytest.raises(ValidationError, match=r"expected \['best'\]"):
        Report.model_validate({**report.model_dump(), "results": results})


def test_member_names_are_unique(report: Report) -> None:
    members = [report.members[0].model_dump() for _ in range(2)]
    with pytest.raises(ValidationError, match=r"member names stand twice: \['resnet20'\]"):
        Report.model_validate({**report.model_dump(), "members": members})


def test_a_selected_member_has_a_weight(report: Report) -> None:
    with pytest.raises(ValidationError, match=r"'resnet20': selected is True with weight 0\.0"):
        type(report.members[0]).model_validate({**report.members[0].model_dump(), "weight": 0.0})


def test_label_clusters_hold_every_class_once(report: Report) -> None:
    dump = report.model_dump()
    tried = dump["subclassifiers"]["tried"][1]
    tried["clusters"] = tried["clusters"][:2]
    with pytest.raises(ValidationError, match="each of 10 classes once"):
        Report.model_validate(dump)


def test_an_example_has_a_probability_for_every_class(report: Report) -> None:
    dump = report.model_dump()
    dump["examples"][0]["after"]["probabilities"] = (0.5, 0.5)
    with pytest.raises(ValidationError, match=r"\[2, 10\] probabilities"):
        Report.model_validate(dump)
