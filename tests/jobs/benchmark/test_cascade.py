import json

import pytest
from rich.console import Console

from jobs.benchmark.cascade import benchmark_cascade


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    out = tmp_path_factory.mktemp("cascade") / "cascade.json"
    words = ["images=1200", "classes=12", "members=3", "halves=1", "lose=2", "search=uniform"]
    report = benchmark_cascade([*words, f"out={out}"], Console(quiet=True))
    document: dict[str, object] = json.loads(out.read_text())
    assert document == json.loads(json.dumps(report.document()))
    return document


def test_each_bar_is_judged_on_images_that_nothing_was_fitted_on(
    document: dict[str, object],
) -> None:
    bars = document["bars"]
    assert isinstance(bars, list)
    assert [bar["bar"] for bar in bars] == [3.0, 2.0, 0.9]
    splits = document["figures"]["splits"]  # type: ignore[index]
    assert bars[0]["measured"] == pytest.approx(splits[0]["speedup"])
    assert bars[1]["measured"] == pytest.approx(splits[0]["loss_points"])


def test_a_cascade_costs_no_more_than_the_whole_ensemble(document: dict[str, object]) -> None:
    (split,) = document["figures"]["splits"]  # type: ignore[index]
    assert split["speedup"] >= 1
    assert split["equal_speedup"] > 0
    assert 0 < split["ensemble_error"] < 1
