"""`ensemble benchmark schedule`: fine-tunes and the search side by side, against one after the other."""

import json
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
from pydantic import NonNegativeInt, PositiveInt
from rich.console import Console

from cluster.pool.pool import Pool, open_pool
from cluster.search_task import start_search
from cluster.settings import ClusterConfig
from ensemble.checkpoints.load import load_member
from ensemble.config import Config, check
from ensemble.files import write_atomic
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
from jobs.benchmark.synthetic_pool import SyntheticPool
from jobs.search_settings import read_settings


class ScheduleBenchmarkConfig(Config):
    """How many networks are fine-tuned on how many hosts, beside how long a search."""

    hosts: PositiveInt = 2
    """Host actors; more than there are cores stand for other machines, and share the cores."""
    num_clusters: PositiveInt = 8
    """Networks that are fine-tuned."""
    epochs: PositiveInt = 15
    """Of each."""
    train_images: PositiveInt = 600
    """Digits that are trained on."""
    search_images: PositiveInt = 5000
    """Images of the made-up pool that is searched."""
    search_classes: PositiveInt = 100
    """Its classes."""
    search_members: PositiveInt = 13
    """Its members."""
    repeats: PositiveInt = 3
    """Times that both schedules are measured, in turn; the medians count."""
    seed: NonNegativeInt = 0
    """Of all of it."""
    out: Path = Path("schedule-benchmark.json")
    """Where the figures go."""


@dataclass(frozen=True)
class _Walls:
    """Seconds from the start until something was done."""

    search: float
    fine_tunes: float
    everything: float

    @property
    def search_waits(self) -> bool:
        """Whether the search was done after the last fine-tune only."""
        return self.search > self.fine_tunes


def benchmark_schedule(words: Sequence[str], console: Console) -> None:
    """Measure both schedules with the same tasks, and write the figures.

    Raises:
        ConfigError: A word is not a setting.
    """
    config = check(ScheduleBenchmarkConfig, read_settings(words), "the command")
    table = _made_up_table(config)
    cluster = ClusterConfig(device="cpu", hosts=config.hosts)
    with (
        tempfile.TemporaryDirectory() as folder,
        open_pool(cluster, DigitsConfig(), CostCache(Path(folder) / "figures")) as pool,
    ):
        base = _tasks(pool, config, Path(folder), ())
        apart, together = [], []
        for repeat in range(config.repeats):
            # Weights are kept by content: each measurement has a folder of its own.
            alone, both = (Path(folder) / f"{name}-{repeat}" for name in ("apart", "both"))
            apart.append(_one_after_the_other(pool, table, _tasks(pool, config, alone, base)))
            together.append(_side_by_side(pool, table, _tasks(pool, config, both, base)))
    figures = {
        "config": config.model_dump(mode="json"),
        "side_by_side": [asdict(walls) for walls in together],
        "one_after_the_other": [asdict(walls) for walls in apart],
        "ratio": median(a.everything / t.everything for a, t in zip(apart, together, strict=True)),
        "search_waits": any(walls.search_waits for walls in together),
    }
    write_atomic(config.out, json.dumps(figures, indent=2) + "\n")
    console.print(
        f"{config.num_clusters} fine-tunes and a search on {config.hosts} hosts, medians of "
        f"{config.repeats}: {median(t.everything for t in together):.1f} s side by side (the search was "
        f"done after {median(t.search for t in together):.1f} s, the fine-tunes after "
        f"{median(t.fine_tunes for t in together):.1f} s), {median(a.everything for a in apart):.1f} s "
        f"one after the other (the search alone {median(a.search for a in apart):.1f} s): "
        f"{figures['ratio']:.2f} times as fast.\nfigures: {config.out}",
        soft_wrap=True,
        highlight=False,
    )


def _made_up_table(config: ScheduleBenchmarkConfig) -> OutrankingTable:
    made_up = SyntheticPool(config.search_members, config.search_classes, seed=config.seed)
    labels = made_up.labels(config.search_images)
    builder = OutrankingBuilder(tuple(f"member {i}" for i in range(config.search_members)))
    builder.add(list(made_up.columns(labels)), labels)
    return builder.finish()


def _tasks(
    pool: Pool, config: ScheduleBenchmarkConfig, folder: Path, base: tuple[TrainTask, ...]
) -> tuple[TrainTask, ...]:
    """A base to start from if there is none yet, the fine-tunes from it if there is."""
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
