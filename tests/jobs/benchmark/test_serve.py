"""The benchmark of the server, small: it has every figure, and both bars are those of the default server."""

import json
import socket
from pathlib import Path

import pytest

from ..conftest import Command

pytestmark = [pytest.mark.ray, pytest.mark.nightly]


def test_a_small_benchmark_has_every_figure(command: Command, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ("requests=4", "repeats=1", "concurrency=4", "max_batch=4", f"port={port}")
    done = command("benchmark", "serve", *words, cwd=tmp_path)
    assert done.returncode in (0, 1), done.stderr
    document = json.loads((tmp_path / "serve-benchmark.json").read_text())
    assert [bar["compare"] for bar in document["bars"]] == ["<=", ">="]
    figures = document["figures"]
    for name in ("batched", "one by one"):
        assert 0 < figures[name]["alone_p50_s"] <= figures[name]["alone_p99_s"]
        assert figures[name]["together_per_s"] > 0
    overhead = 1e3 * (figures["batched"]["alone_p50_s"] - figures["bare"]["one_s"])
    assert document["bars"][0]["measured"] == pytest.approx(overhead)
