import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from ensemble.errors import ConfigError
from ensemble.outranking import measures
from jobs.benchmark import search_baselines as baselines
from jobs.benchmark import search_quality as quality
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
    "halves=1",
]


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    """Top-5 lists over 1000 classes, drawn at random."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 1000, 60)
    classes = np.stack(
        [np.stack([rng.permutation(1000)[:5] for _ in labels]) for _ in quality.POOL]
    )
    right = rng.random(classes.shape[:2]) < 0.7
    # The label comes first, and what was there is swapped to where the label may have stood.
    first = classes[..., 0].copy()
    for place in range(1, 5):
        at = right & (classes[..., place] == labels)
        classes[..., place][at] = first[at]
    classes[..., 0] = np.where(right, labels, first)
    probabilities = -np.sort(-rng.dirichlet(np.ones(6), classes.shape[:2])[..., :5], axis=-1)
    path = tmp_path / "predictions.npz"
    np.savez(
        path,
        models=np.array(quality.POOL),
        classes=classes.astype(np.int16),
        probabilities=probabilities.astype(np.float16),
        labels=labels.astype(np.int16),
    )
    return path


def test_the_benchmark_prints_and_writes_every_bar(tmp_path: Path, predictions: Path) -> None:
    out = tmp_path / "bench.json"
    console = Console(record=True, width=140)
    words = [*SMALL, f"out={out}", f"predictions={predictions}"]
    report = benchmark_search(words, console)
    document = json.loads(out.read_text())
    assert document == json.loads(json.dumps(report.document()))
    names = [bar["name"] for bar in document["bars"]]
    assert len(names) == len(set(names)) >= 8
    assert document["figures"]["exact_mismatches"] == 0
    assert set(document["figures"]["real"]["results"]) == {"top_1", "top_5"}
    printed = console.export_text()
    is_there = baselines.autogluon_selection() is not None
    assert ("AutoGluon, which" in printed) != is_there
    assert (".[benchmark]" in printed) != is_there
    assert "halves 1 of 1" in printed
    assert printed.splitlines()[-1] == report.verdict()
    assert all(name.split(",")[0] in printed for name in names)
    assert "scaled by 3 x 101" in printed


def test_real_predictions_keep_the_errors_of_all_classes(predictions: Path) -> None:
    table = quality.load_table(predictions)
    with np.load(predictions) as file:
        classes, labels = file["classes"], file["labels"]
    expected = (classes[:, :, 0] != labels).sum(axis=1)
    np.testing.assert_array_equal(measures.member_errors(table, 1), expected)


def test_the_slots_give_the_ranks_of_dense_scores() -> None:
    rng = np.random.default_rng(1)
    classes = np.stack([np.stack([rng.permutation(30)[:5] for _ in range(40)]) for _ in range(3)])
    probabilities = -np.sort(-rng.dirichlet(np.ones(6), (3, 40))[..., :5], axis=-1)
    labels = rng.integers(0, 30, 40)
    columns, slots = quality._slots(classes, probabilities, labels, num_classes=30)
    rest = (1 - probabilities.sum(axis=2)) / 25
    dense = np.repeat(rest[..., None], 30, axis=2)
    np.put_along_axis(dense, classes, probabilities, axis=2)
    scores, kept = dense.sum(axis=0), np.exp(np.array(columns, dtype=np.float64)).sum(axis=0)
    listed = (classes == labels[:, None]).any(axis=(0, 2))
    own = scores[np.arange(40), labels]
    rank = (scores > own[:, None] + 1e-6).sum(axis=1)
    slot_rank = (kept > kept[np.arange(40), slots][:, None] + 1e-6).sum(axis=1)
    np.testing.assert_array_equal(rank[listed], slot_rank[listed])
    assert (slot_rank[~listed] >= 5).all()


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


def test_predictions_that_are_not_there_are_refused(tmp_path: Path) -> None:
    words = [*SMALL, f"out={tmp_path / 'x.json'}", f"predictions={tmp_path / 'none.npz'}"]
    with pytest.raises(ConfigError, match="does not hold the top-k predictions"):
        benchmark_search(words, Console())
    with pytest.raises(ConfigError, match="Did you mean 'repeats'"):
        benchmark_search(["repeat=1"], Console())
