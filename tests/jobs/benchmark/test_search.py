import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from ensemble.errors import ConfigError
from jobs.benchmark import search_baselines as baselines
from jobs.benchmark.search import benchmark_search

SMALL = [
    "images=300",
    "classes=20",
    "members=4",
    "repeats=2",
    "replicates=3",
    "topk_images=100",
    "caruana_images=100",
    "exact_weights=2",
]


def test_the_benchmark_prints_and_writes_every_bar(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    console = Console(record=True, width=140)
    report = benchmark_search([*SMALL, f"out={out}"], console)
    document = json.loads(out.read_text())
    assert document == json.loads(json.dumps(report.document()))
    names = [bar["name"] for bar in document["bars"]]
    assert len(names) == len(set(names)) >= 8
    assert document["figures"]["exact_mismatches"] == 0
    printed = console.export_text()
    is_there = baselines.autogluon_selection() is not None
    assert ("AutoGluon, which" in printed) != is_there
    assert (".[benchmark]" in printed) != is_there
    assert printed.splitlines()[-1] == report.verdict()
    assert all(name.split(",")[0] in printed for name in names)
    assert "scaled by 3 x 101" in printed


def test_the_plain_baselines_count_right() -> None:
    rng = np.random.default_rng(2)
    tables = [rng.random((50, 6)).astype(np.float32) for _ in range(3)]
    labels = rng.integers(0, 6, 50)
    mixed = tables[0] + np.float32(0.5) * tables[1]
    expected = (mixed.argsort(axis=1)[:, -2:] != labels[:, None]).all(axis=1).sum()
    assert baselines.topk_errors(tables[0], tables[1], labels, 0.5, 2) == expected
    votes, errors = baselines.plain_selection(tables, labels, 4)
    average = sum(vote * table for vote, table in zip(votes, tables, strict=True))
    assert errors == (average.argmax(axis=1) != labels).sum()


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'repeats'"):
        benchmark_search(["repeat=1"], Console())
