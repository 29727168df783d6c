import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from ensemble.errors import ConfigError
from ensemble.evaluation.crossed_bootstrap import crossed_bootstrap
from ensemble.outranking import measures
from jobs.benchmark import top_k_lists as lists
from jobs.benchmark.pools import benchmark_pools
from jobs.benchmark.report import BenchmarkReport
from jobs.import_table.job import ImportSettings, import_table
from jobs.stored_runs.finished import open_finished_run


@pytest.fixture(scope="module")
def predictions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Top-5 lists over 1000 classes, drawn at random."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 1000, 60)
    classes = np.stack([np.stack([rng.permutation(1000)[:5] for _ in labels]) for _ in lists.POOL])
    right = rng.random(classes.shape[:2]) < 0.7
    # The label comes first, and what was there is swapped to where the label may have stood.
    first = classes[..., 0].copy()
    for place in range(1, 5):
        at = right & (classes[..., place] == labels)
        classes[..., place][at] = first[at]
    classes[..., 0] = np.where(right, labels, first)
    probabilities = -np.sort(-rng.dirichlet(np.ones(6), classes.shape[:2])[..., :5], axis=-1)
    path = tmp_path_factory.mktemp("lists") / "predictions.npz"
    np.savez(
        path,
        models=np.array(lists.POOL),
        classes=classes.astype(np.int16),
        probabilities=probabilities.astype(np.float16),
        labels=labels.astype(np.int16),
    )
    return path


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> tuple[BenchmarkReport, list[str]]:
    """The report on a small synthetic pool, and the lines that were printed."""
    out = tmp_path_factory.mktemp("synthetic") / "pools.json"
    words = ["images=240", "classes=12", "members=2", "halves=2", "k=2", "resamples=20"]
    console = Console(record=True, width=200)
    report = benchmark_pools([*words, f"out={out}"], console)
    assert json.loads(out.read_text()) == json.loads(json.dumps(report.document()))
    return report, console.export_text().splitlines()


def test_the_table_has_a_row_for_every_search_on_both_means(
    synthetic: tuple[BenchmarkReport, list[str]],
) -> None:
    report, printed = synthetic
    rows = report.figures["rows"]
    assert list(rows) == ["top_1", "top_2"]
    assert (report.figures["images"], report.figures["splits"]) == (240, 2)
    names = [(row["search"], row["means"]) for row in rows["top_2"]]
    assert len(names) == len(set(names)) == 18
    assert {means for search, means in names if search == "likelihood"} == {"probabilities", "logs"}
    (taken,) = [row["took"] for row in rows["top_1"] if row["means"] == "both"]
    assert sum(taken.values()) == 2
    table = [line for line in printed if line.startswith("| ")]
    assert len(table) == 19
    assert len({line.count("|") for line in table}) == 1
    assert printed[-1] == report.verdict()


def test_differences_are_those_of_the_errors(
    synthetic: tuple[BenchmarkReport, list[str]],
) -> None:
    rows = {(r["search"], r["means"]): r for r in synthetic[0].figures["rows"]["top_1"]}
    paper = rows["paper", "probabilities"]["error"]["mean"]
    for row in rows.values():
        interval = row["against_paper"]
        assert interval["mean"] == pytest.approx(row["error"]["mean"] - paper)
        assert interval["low"] <= interval["mean"] <= interval["high"]


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Two runs of one pool, imported; the images are divided by another seed in each."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 200)
    logits = rng.normal(size=(2, 200, 4))
    logits[:, np.arange(200), labels] += 1.5
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    np.savez(tmp_path / "members.npz", a=probabilities[0], b=probabilities[1])
    np.save(tmp_path / "labels.npy", labels)
    places = [tmp_path / f"run{seed}" for seed in (0, 1)]
    for seed, place in enumerate(places):
        settings = ImportSettings([tmp_path / "members.npz"], tmp_path / "labels.npy", seed=seed)
        import_table(place, settings)
    return places


def test_runs_are_judged_on_their_own_test_images(tmp_path: Path, runs: list[Path]) -> None:
    place, other = runs
    words = ["k=1", "resamples=20", f"out={tmp_path / 'pools.json'}"]
    report = benchmark_pools(
        [*words, f"runs=[{place}, {other}]", "temperature=true"], Console(quiet=True)
    )
    tests = [set(open_finished_run(run).splits.test.image_ids.tolist()) for run in runs]
    assert tests[0] != tests[1]
    assert report.figures["images"] == len(tests[0] | tests[1])
    assert report.figures["splits"] == 2
    calibrated = benchmark_pools(
        [*words, f"runs=[{place}]", "temperature=true"], Console(quiet=True)
    )
    assert calibrated.figures["rows"] != report.figures["rows"]
    with pytest.raises(ConfigError, match="names a run twice"):
        benchmark_pools([*words, f"runs=[{place}, {place}]"], Console(quiet=True))


def test_lists_keep_the_errors_of_all_classes(predictions: Path) -> None:
    table = lists.load_table(predictions)
    with np.load(predictions) as file:
        classes, labels = file["classes"], file["labels"]
    expected = (classes[:, :, 0] != labels).sum(axis=1)
    np.testing.assert_array_equal(measures.member_errors(table, 1), expected)


def test_the_slots_give_the_ranks_of_dense_scores() -> None:
    rng = np.random.default_rng(1)
    classes = np.stack([np.stack([rng.permutation(30)[:5] for _ in range(40)]) for _ in range(3)])
    probabilities = -np.sort(-rng.dirichlet(np.ones(6), (3, 40))[..., :5], axis=-1)
    labels = rng.integers(0, 30, 40)
    columns, slots = lists._slots(classes, probabilities, labels, num_classes=30)
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


def test_an_interval_is_wider_where_splits_differ_than_where_only_images_do() -> None:
    rng = np.random.default_rng(3)
    is_judged = rng.random((4, 600)) < 0.7
    alike = np.where(rng.random(600) < 0.2, 1.0, 0.0) * is_judged
    apart = alike * np.array([[0.0], [0.0], [1.0], [3.0]])
    low, high = crossed_bootstrap(np.stack([alike, apart]), is_judged, 400, 0)
    for interval, differences in ((low, alike), (high, apart)):
        assert interval.mean == pytest.approx(differences.sum() / is_judged.sum())
        assert interval.low < interval.mean < interval.high
        assert interval.resamples == 400
    # That of a share of 0.2 among the images of one split.
    assert low.high - low.low == pytest.approx(4 * np.sqrt(0.2 * 0.8 / 420), rel=0.2)
    assert high.high - high.low > 3 * (low.high - low.low)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predictions=nowhere.npz"], "does not hold the top-k predictions"),
        (["predictions=a.npz", "runs=[b]"], "are two pools; set one"),
        (["half=1"], "Did you mean 'halves'"),
        (["runs=[nowhere]"], "nowhere"),
    ],
)
def test_a_pool_that_is_not_there_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        benchmark_pools(words, Console(quiet=True))
