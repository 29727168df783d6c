"""`ensemble benchmark schedule`: fine-tunes and the search side by side, against one after the other."""

import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

import numpy as np
from pydantic import NonNegativeInt, PositiveInt
from rich.console import Console

from cluster.pool.pool import Pool, open_pool
from cluster.search_task import start_search
from cluster.settings import ClusterConfig
from ensemble.checkpoints.load import load_member
from ensemble.images.open import open_source
from ensemble.images.settings import DigitsConfig, SplitConfig
from ensemble.images.shard import plan_shards
from ensemble.images.split import split
from ensemble.inference.costs import CostCache
from ensemble.outranking.builder import OutrankingBuilder
from ensemble.outranking.table import OutrankingTable
from ensemble.search.settings import SearchConfig
from ensemble.training.recipe import RecipeConfig
from ensemble.training.task import TrainTask
from ensemble.views.settings import CenterView
from jobs.benchmark.report import (
    Bar,
    Begin,
    BenchmarkConfig,
    BenchmarkReport,
    finish,
    read_config,
    step_printer,
)
from jobs.benchmark.synthetic_pool import SyntheticPool


class ScheduleBenchmarkConfig(BenchmarkConfig):
    """How many networks are fine-tuned on how many hosts, and which search runs beside them."""

    full_size: ClassVar = {"repeats": 5}

    hosts: PositiveInt = 2
    """Host actors; more than there are cores stand for other machines, and share the cores."""
    num_clusters: PositiveInt = 8
    """Networks that are fine-tuned."""
    epochs: PositiveInt = 15
    """Epochs that each network is fine-tuned for."""
    train_images: PositiveInt = 600
    """Images of digits that the networks are trained on."""
    search_images: PositiveInt = 5000
    """Images of the synthetic pool that is searched."""
    search_classes: PositiveInt = 100
    """Classes of the synthetic pool."""
    search_members: PositiveInt = 13
    """Members of the synthetic pool."""
    repeats: PositiveInt = 3
    """Rounds; both schedules are timed in turn in each round, and medians are reported."""
    seed: NonNegativeInt = 0
    """Seed of the synthetic pool and of the split of the digits."""
    out: Path = Path("schedule-benchmark.json")
    """JSON file that the bars and figures are written to."""


@dataclass(frozen=True)
class _Walls:
    """Seconds from the start until the search, the fine-tunes and both were done."""

    search: float
    fine_tunes: float
    everything: float

    @property
    def search_waits(self) -> bool:
        """Whether the search was done after the last fine-tune only."""
        return self.search > self.fine_tunes


def benchmark_schedule(
    words: Sequence[str], console: Console, is_full: bool = False
) -> BenchmarkReport:
    """Time both schedules, print the figures, and write them to a file.

    Raises:
        ConfigError: A setting is unknown or has a wrong value, or the file cannot be written.
        ClusterError: Ray does not start.
    """
    config = read_config(ScheduleBenchmarkConfig, words, is_full)
    report = measure(config, step_printer(console))
    console.print(_describe(config, report.figures), soft_wrap=True, highlight=False)
    return finish(report, config.out, console)


def measure(config: ScheduleBenchmarkConfig, begin: Begin) -> BenchmarkReport:
    """Time both schedules with the same tasks on an embedded Ray.

    Raises:
        ClusterError: Ray does not start.
    """
    begin("making the table that is searched")
    table = _synthetic_table(config)
    cluster = ClusterConfig(device="cpu", hosts=config.hosts)
    begin("starting Ray")
    with (
        tempfile.TemporaryDirectory() as folder,
        open_pool(cluster, DigitsConfig(), CostCache(Path(folder) / "figures")) as pool,
    ):
        begin("training the base network")
        base = _tasks(pool, config, Path(folder), ())
        apart, together = [], []
        for repeat in range(config.repeats):
            # Weights are kept by content: each measurement has a folder of its own.
            alone, both = (Path(folder) / f"{name}-{repeat}" for name in ("apart", "both"))
            begin(f"round {repeat + 1} of {config.repeats}: one after the other")
            apart.append(_one_after_the_other(pool, table, _tasks(pool, config, alone, base)))
            begin(f"round {repeat + 1} of {config.repeats}: side by side")
            together.append(_side_by_side(pool, table, _tasks(pool, config, both, base)))
    waits = sum(walls.search_waits for walls in together)
    figures = {
        "side_by_side": [asdict(walls) for walls in together],
        "one_after_the_other": [asdict(walls) for walls in apart],
        "ratio": median(a.everything / t.everything for a, t in zip(apart, together, strict=True)),
    }
    bars = (Bar("rounds whose search was done after the last fine-tune only", waits, "<=", 0.0),)
    return BenchmarkReport(config.model_dump(mode="json"), bars, figures)


def _describe(config: ScheduleBenchmarkConfig, figures: Mapping[str, Any]) -> str:
    def seconds(schedule: str, key: str) -> str:
        return f"{median(walls[key] for walls in figures[schedule]):.1f} s"

    return (
        f"{config.num_clusters} fine-tunes and a search on {config.hosts} hosts, medians of "
        f"{config.repeats}: {seconds('side_by_side', 'everything')} side by side (the search was done "
        f"after {seconds('side_by_side', 'search')}, the fine-tunes after "
        f"{seconds('side_by_side', 'fine_tunes')}), {seconds('one_after_the_other', 'everything')} one "
        f"after the other (the search alone {seconds('one_after_the_other', 'search')}): "
        f"{figures['ratio']:.2f} times as fast."
    )


def _synthetic_table(config: ScheduleBenchmarkConfig) -> OutrankingTable:
    synthetic = SyntheticPool(config.search_members, config.search_classes, seed=config.seed)
    labels = synthetic.labels(config.search_images)
    builder = OutrankingBuilder(tuple(f"member {i}" for i in range(config.search_members)))
    builder.add(list(synthetic.columns(labels)), labels)
    return builder.finish()


def _tasks(
    pool: Pool, config: ScheduleBenchmarkConfig, folder: Path, base: tuple[TrainTask, ...]
) -> tuple[TrainTask, ...]:
    """Train a base to start from if there is none yet; make the fine-tunes of it if there is."""
    index = open_source(DigitsConfig()).index()
    parts = split(index, SplitConfig(train=config.train_images, search=100), config.seed)
    recipe = RecipeConfig(epochs=config.epochs if base else 1)
    if not base:
        # One for each host, so that none has libraries left to load when the clock runs.
        task = TrainTask("base", "resnet14_small", recipe, 0, parts.train, tuple(range(10)), folder)
        tasks = tuple(replace(task, seed=seed) for seed in range(config.hosts))
        _train(pool, tasks)
        return tasks
    member = load_member("base", base[0].checkpoint, CenterView(), index.sha256)
    # Clusters of two classes that overlap, because ten digits do not make eight that do not.
    return tuple(
        TrainTask.of_subclassifier(
            member, parts.train, (number % 9, number % 9 + 1), recipe, number, folder
        )
        for number in range(config.num_clusters)
    )


def _train(pool: Pool, tasks: tuple[TrainTask, ...]) -> None:
    ids = np.unique(np.concatenate([task.images.image_ids for task in tasks]))
    for _ in pool.train(tasks, plan_shards(ids.tolist(), 256)):
        pass


def _side_by_side(pool: Pool, table: OutrankingTable, tasks: tuple[TrainTask, ...]) -> _Walls:
    started, search_done = time.perf_counter(), []
    search = start_search(table, SearchConfig(kind="auto"))

    def wait() -> None:
        search.result()
        search_done.append(time.perf_counter() - started)

    waiting = threading.Thread(target=wait)
    waiting.start()
    _train(pool, tasks)
    fine_tunes = time.perf_counter() - started
    waiting.join()
    return _Walls(search_done[0], fine_tunes, time.perf_counter() - started)


def _one_after_the_other(
    pool: Pool, table: OutrankingTable, tasks: tuple[TrainTask, ...]
) -> _Walls:
    started = time.perf_counter()
    start_search(table, SearchConfig(kind="auto")).result()
    search = time.perf_counter() - started
    for task in tasks:
        _train(pool, (task,))
    everything = time.perf_counter() - started
    return _Walls(search, everything - search, everything)
