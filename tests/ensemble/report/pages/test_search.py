import json
import re

import pytest

from ensemble.report.documents.search import SearchReport
from ensemble.report.pages.search import render

HOSTILE = "<script>alert(1)</script>"
DIFFERENCE = {
    "difference": -0.02,
    "low": -0.04,
    "high": -0.005,
    "level": 0.95,
    "resamples": 1000,
    "mcnemar_p": 0.021,
    "fixed": 7,
    "broken": 3,
}


def row(key: str, label: str, errors: int, **differences: object) -> dict[str, object]:
    return {
        "key": key,
        "label": label,
        "members": 2,
        "n": 200,
        "errors": errors,
        "error": errors / 200,
        "nll": 0.25,
        "against_best": None,
        "against_uniform": None,
    } | differences


@pytest.fixture
def report() -> SearchReport:
    member = {
        "family": "vgg16",
        "weight": 0.5,
        "errors": 12,
        "gain": 3,
        "loss": 1,
        "nearest": None,
        "correlation": None,
        "reason": "fewest errors",
        "cost": 0.004,
        "temperature": 1.25,
        "frequency": 0.9,
        "share_low": 0.25,
        "share_high": 0.75,
    }
    return SearchReport.model_validate(
        {
            "run": HOSTILE,
            "config_sha256": "a" * 64,
            "data_sha256": "b" * 64,
            "settings": {},
            "search": "paper",
            "k": 1,
            "classes": 10,
            "search_images": 300,
            "judged_images": 200,
            "is_cross_fitted": False,
            "cost_unit": "seconds",
            "warnings": ("few images",),
            "results": (
                row("best", "best member (b)", 14),
                row("uniform_all", "uniform over all 2", 12, against_best=DIFFERENCE),
                row("ensemble", "weighted ensemble", 10, against_best=DIFFERENCE),
            ),
            "members": ({**member, "name": "a", "weight": 0.0}, {**member, "name": "b"}),
            "stability": {
                "resamples": 100,
                "same_selection": 0.8,
                "in_bag_error": 0.05,
                "out_of_bag_error": 0.06,
            },
            "frontier": (
                {
                    "cost": 0.004,
                    "kind": "best",
                    "members": 1,
                    "weights": {"b": 1.0},
                    "search_errors": 12,
                    "errors": 14,
                    "is_tied": True,
                    "is_cheapest_tied": True,
                },
            ),
            "fallbacks": (
                {
                    "missing": "b",
                    "weights": {"a": 1.0},
                    "search_errors": 15,
                    "search_errors_unchanged": 16,
                },
            ),
            "average_temperature": {
                "value": 1.1,
                "nll_before": 0.26,
                "nll_after": 0.24,
                "is_kept": True,
            },
            "class_names": (HOSTILE, *map(str, range(9))),
            "errors_by_class": {
                "predictor": "weighted ensemble",
                "best": "best member (b)",
                "classes": tuple(
                    {"label": i, "images": 20, "best_errors": i % 3, "errors": i % 2}
                    for i in range(10)
                ),
                "confusions": ({"label": 0, "answer": 3, "images": 4},),
            },
            "reliability": {
                "predictor": "weighted ensemble",
                "before": {
                    "temperature": 1,
                    "calibration_error": 0.0125,
                    "bins": (
                        {
                            "low": 0.9375,
                            "high": 1,
                            "images": 200,
                            "confidence": 0.9725,
                            "accuracy": 0.96,
                        },
                    ),
                },
            },
            "agreement": {
                "images": 200,
                "members": ("a", "b"),
                "correlation": ((1, 0.25), (0.25, 1)),
                "disagreement": ((0, 0.0625), (0.0625, 0)),
                "effective_all": 1.6,
                "effective_selected": 1,
                "selected": 1,
            },
            "execution": {
                "seconds": 1.5,
                "images": "folder /data/photographs",
                "versions": {"numpy": "2"},
            },
        }
    )


def test_every_number_of_the_page_of_a_search_stands_in_its_json(report: SearchReport) -> None:
    in_json = {float(n) for n in re.findall(r"-?\d+(?:\.\d+)?", json.dumps(report.model_dump()))}
    in_page = [float(value) for value in re.findall(r'<data value="([^"]+)"', render(report))]
    assert len(in_page) > 50
    assert set(in_page) <= in_json


def test_the_page_of_a_search_lists_members_by_weight(report: SearchReport) -> None:
    assert re.findall(r'data-member="(\w)"', render(report)) == ["b", "a"]


def test_the_page_of_a_search_escapes_every_text(report: SearchReport) -> None:
    page = render(report)
    assert "<script" not in page
    # In the title and above the verdict, and as a class in two tables.
    assert page.count("&lt;script&gt;") == 4
    assert "Made from search-report.json, schema" in page


def test_the_contents_of_a_search_name_the_sections_that_are_there(report: SearchReport) -> None:
    page = render(report)
    sections = re.findall(r'<section id="(\w+)"', page)
    assert re.findall(r'href="#(\w+)"', page) == sections
    assert {"agreement", "classes", "calibration"} < set(sections)
    earlier = report.model_copy(
        update=dict.fromkeys(("agreement", "errors_by_class", "reliability"))
    )
    page = render(earlier)
    assert re.findall(r'href="#(\w+)"', page) == re.findall(r'<section id="(\w+)"', page)


def test_a_search_names_its_images_and_the_scale_of_its_fallbacks(report: SearchReport) -> None:
    fallbacks = (report.fallbacks[0].model_copy(update={"scale": 0.625}),)
    logs = report.model_copy(update={"combine": "logs", "fallbacks": fallbacks, "scale": 1.5})
    page = render(logs)
    assert "folder /data/photographs" in page
    assert '<data value="0.625">' in page
    assert "exponents, not shares" in page
    assert "exponents" not in render(report)
