"""`ensemble benchmark bulk` with the least of everything."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from jobs.benchmark.bulk import benchmark_bulk

pytestmark = [pytest.mark.nightly, pytest.mark.ray]


def test_parts_are_timed_and_the_drivers_memory_is_watched(tmp_path: Path) -> None:
    out = tmp_path / "bulk.json"
    words = ["seconds=0.1", "shard_images=16", "listed=50", "repeats=1", f"out={out}"]
    report = benchmark_bulk(words, Console(quiet=True))
    figures = json.loads(out.read_text())["figures"]
    (run,) = figures["predict"]
    assert run["images"] >= 32
    assert run["steady_s"] > 0
    assert figures["list"]["images"] == 50
    assert figures["list"]["peak_bytes"] > figures["list"]["before_bytes"] > 0
    assert [bar.bar for bar in report.bars] == [0.95, 1000.0]
