"""The benchmark of a GPU at its smallest size, on a CPU."""

import json
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from rich.console import Console

from jobs.benchmark.gpu.flow import benchmark_gpu


def smoke(words: Sequence[str], folder: Path) -> dict[str, object]:
    """Run it with other settings; return the document that it writes."""
    out = folder / "gpu.json"
    console = Console(file=StringIO(), width=100)
    report = benchmark_gpu([f"out={out}", *words], console, is_smoke=True)
    document: dict[str, object] = json.loads(out.read_text())
    assert document["bars"] == report.document()["bars"]
    return document
