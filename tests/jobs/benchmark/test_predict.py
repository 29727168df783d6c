import json
from pathlib import Path

import pytest
from rich.console import Console

from jobs.benchmark.predict import benchmark_predict


@pytest.mark.ray
@pytest.mark.nightly
def test_small_benchmark_of_predict_has_every_figure(tmp_path: Path) -> None:
    words = ["input_size=32", "shards=2", "repeats=1", "members=3", "width=64", "height=48"]
    report = benchmark_predict([*words, f"out={tmp_path}/bench.json"], Console(quiet=True))
    assert json.loads((tmp_path / "bench.json").read_text()) == report.document()
    figures = report.figures
    assert len(report.bars) == 3
    for way in ("system", "system_from_decoded"):
        assert figures[way]["speed_ratios"] == [figures[way]["speed_ratio"]]
        assert min(figures[way]["speed_ratio"], figures[way]["cpu_ratio"]) > 0
    assert figures["decoded_images"] == {"for_one": 128, "for_all": 128}
    assert figures["decode_ratio"] == 1
