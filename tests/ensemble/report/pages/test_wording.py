import pytest

from ensemble.report.documents.run import Report
from ensemble.report.pages.wording import (
    THIN,
    digits_for,
    figure,
    large_text,
    p_text,
    percent_text,
    plain,
    points_text,
    seconds_text,
    signed,
    verdict,
    weight_text,
)


@pytest.mark.parametrize(("n", "digits"), [(1, 1), (897, 1), (1000, 1), (10_000, 2), (50_000, 3)])
def test_one_error_more_reads_as_another_percentage(n: int, digits: int) -> None:
    assert digits_for(n) == digits
    few = range(min(n, 60))
    assert len({percent_text(errors / n, digits) for errors in few}) == len(few)


def test_what_rounds_to_zero_has_no_sign() -> None:
    assert (signed(-0.04, 1), signed(0.04, 1), plain(-0.004, 2)) == ("0.0", "0.0", "0.00")
    assert (signed(-0.9, 1), signed(0.9, 1), plain(0.9, 1)) == ("−0.9", "+0.9", "0.9")
    assert points_text(-0.0089) == "−0.9"


@pytest.mark.parametrize(
    ("weight", "text"), [(1.0, "1.00"), (0.37, "0.37"), (0.0625, "0.062"), (1e-5, "<0.001")]
)
def test_a_weight_above_zero_never_reads_as_zero(weight: float, text: str) -> None:
    assert weight_text(weight) == text


def test_units_suit_the_size() -> None:
    said = [seconds_text(s) for s in (0.2, 94.7, 7260.0)]
    said += [large_text(n) for n in (95, 95_818, 2_300_410)]
    assert [text.replace(THIN, " ") for text in said] == [
        "0.2 s",
        "1 min 35 s",
        "2 h 1 min",
        "95",
        "95.8 k",
        "2.3 M",
    ]
    assert [p_text(p) for p in (0.0004, 0.0215)] == ["p < 0.001", "p = 0.021"]


def test_a_figure_carries_its_exact_value_and_is_escaped() -> None:
    assert figure(0.1, "<0.1>") == '<data value="0.1">&lt;0.1&gt;</data>'


def test_the_verdict_names_what_is_recommended(report: Report) -> None:
    said = verdict(report)
    assert said.kind == "better"
    assert said.subject == "The weighted ensemble of 5 of 13 members"


def test_the_verdict_says_when_the_best_member_was_kept(report: Report) -> None:
    results = tuple(r.model_copy(update={"chosen": r.key == "best"}) for r in report.results)
    said = verdict(report.model_copy(update={"results": results}))
    assert (said.kind, said.subject) == ("best", "The best single member")
