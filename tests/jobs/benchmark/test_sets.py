import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from jobs.benchmark.sets import benchmark_sets
from jobs.benchmark.top_k_lists import NUM_CLASSES, TopKLists


def test_each_split_is_judged_against_what_the_sets_state(tmp_path: Path) -> None:
    out = tmp_path / "sets.json"
    words = ["images=1200", "classes=12", "members=3", "coverage=0.8", "search=uniform"]
    report = benchmark_sets([*words, f"out={out}"], Console(quiet=True))
    document = json.loads(out.read_text())
    assert document == json.loads(json.dumps(report.document()))
    splits = document["figures"]["splits"]
    assert [split["num_images"] for split in splits] == [600, 600]
    mean = np.mean([split["coverage"] for split in splits])
    assert document["bars"][0]["measured"] == pytest.approx(100 * abs(mean - 0.8))
    for split in splits:
        assert split["sets"]["coverage"] == 0.8
        assert 1 <= split["mean_size"] <= 12


def test_the_mean_of_lists_is_that_of_all_classes() -> None:
    rng = np.random.default_rng(0)
    classes = np.stack(
        [[rng.permutation(NUM_CLASSES)[:5] for _ in range(7)] for _ in range(3)]
    ).astype(np.int64)
    listed = -np.sort(-rng.dirichlet(np.ones(6), (3, 7))[..., :5], axis=2)
    weights = np.array([0.5, 0.0, 0.5])
    dense = np.repeat(((1 - listed.sum(axis=2)) / (NUM_CLASSES - 5))[..., None], NUM_CLASSES, 2)
    np.put_along_axis(dense, classes, listed, axis=2)
    found = TopKLists(classes, listed, np.zeros(7, np.int64)).mean(weights)
    np.testing.assert_allclose(found, np.tensordot(weights, dense, 1), atol=1e-15)
    np.testing.assert_allclose(found.sum(axis=1), 1)
