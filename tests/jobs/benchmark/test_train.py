import json
from pathlib import Path

import pytest
from rich.console import Console

from ensemble.errors import ConfigError
from jobs.benchmark.train import benchmark_train


def test_a_small_benchmark_has_every_figure(tmp_path: Path) -> None:
    words = ["images=64", "input_size=16", "batch_size=32", "rounds=2", "photographs=40"]
    words += ["width=120", "height=90", "photograph_sizes=[32]", f"out={tmp_path}/bench.json"]
    report = benchmark_train(words, Console(quiet=True))
    assert json.loads((tmp_path / "bench.json").read_text()) == report.document()
    assert len(report.figures["loop"]["ratios"]) == 2
    photographs = report.figures["photographs"]["32"]
    assert photographs["num_images"] == 40
    assert photographs["cpu_s"] > photographs["later_cpu_s"] > 0
    assert 0 <= photographs["memory_gb"] < 2
    assert [bar.bar for bar in report.bars] == [0.97, 0.9, 0.9, 2]


def test_a_setting_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"photograph: no such setting\. Did you mean"):
        benchmark_train(["photograph=3"], Console(quiet=True))
