import json
from pathlib import Path

import pytest
from rich.console import Console

from ensemble.errors import ConfigError
from jobs.benchmark.table import benchmark_table


def test_a_small_benchmark_has_every_figure(tmp_path: Path) -> None:
    words = ["images=600", "classes=100", "shard_images=600", "slice_images=300", "repeats=2"]
    found = benchmark_table([*words, f"out={tmp_path}/bench.json"], Console(quiet=True))
    assert json.loads((tmp_path / "bench.json").read_text()) == found
    assert {len(values) for values in found["seconds"].values()} == {2}
    assert found["write_ratio"] > 0
    assert found["read_ratio"] > 0
    assert found["sha256_ratio"] > 0
    assert found["publishing_ratio"] > 0
    assert found["slice_bytes_ratio"] >= 1


def test_a_setting_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"image: no such setting\. Did you mean 'images'"):
        benchmark_table(["image=3"], Console(quiet=True))
