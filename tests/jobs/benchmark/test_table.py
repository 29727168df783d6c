import json
from pathlib import Path

import pytest
from rich.console import Console

from ensemble.errors import ConfigError
from jobs.benchmark.table import benchmark_table


def test_a_small_benchmark_has_every_figure(tmp_path: Path) -> None:
    words = [
        "images=600",
        "classes=100",
        "shard_images=600",
        "slice_images=300",
        "repeats=2",
        "opened_images=300",
    ]
    report = benchmark_table([*words, f"out={tmp_path}/bench.json"], Console(quiet=True))
    assert json.loads((tmp_path / "bench.json").read_text()) == report.document()
    figures = report.figures
    assert {len(values) for values in figures["seconds"].values()} == {2}
    assert figures["write_ratio"] > 0
    assert figures["read_ratio"] > 0
    assert figures["sha256_ratio"] > 0
    assert figures["publishing_ratio"] > 0
    assert figures["slice_bytes_ratio"] >= 1
    assert [bar.bar for bar in report.bars] == [1.5, 1.2, 1.3, 3.0, 600.0, 2.0]
    # 13 members of 3 shards, 64 blocks an entry.
    assert (figures["opening"]["entries"], figures["opening"]["checkpoints"]) == (1, 0)
    assert figures["opening"]["memory_bytes"] > 0


def test_a_setting_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"image: no such setting\. Did you mean 'images'"):
        benchmark_table(["image=3"], Console(quiet=True))
