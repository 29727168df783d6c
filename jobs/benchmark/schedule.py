"""`ensemble benchmark schedule`: fine-tunes and the search side by side, against the longer of the two alone."""

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

# Side by side they are to take little more than the longer one alone.
_MOST_RATIO = 1.1
_SHARD_IMAGES = 256
_SEARCH = SearchConfig(kind="auto")


class ScheduleBenchmarkConfig(BenchmarkConfig):
    """How many networks are fine-tuned on how many hosts, and which search runs beside them."""

    full_size: ClassVar = {"repeats": 5}

    hosts: PositiveInt = 1
    """Host actors; the search needs a core beside theirs."""
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
    """Rounds; in each one everything is timed in turn, and medians are reported."""
    seed: NonNegativeInt = 0
    """Seed of the synthetic pool and of the split of the digits."""
    out: Path = Path("schedule-benchmark.json")
    """JSON file that the bars and figures are written to."""


@dataclass(frozen=True)
class _Round:
    """Seconds of one round.

    Attributes:
        search_alone: The search with nothing beside it.
        fine_tunes_alone: The fine-tunes with nothing beside them.
        search: Until the search was done, side by side.
        fine_tunes: Until the fine-tunes were done, side by side.
    """

    search_alone: float
    fine_tunes_alone: float
    search: float
    fine_tunes: float

    @property
    def ratio(self) -> float:
        """Seconds of both side by side, as a multiple of the longer one alone."""
        together = max(self.search, self.fine_tunes)
        return together / max(self.search_alone, self.fine_tunes_alone)


def benchmark_schedule(
    words: Sequence[str], console: Console, is_full: bool = False
) -> BenchmarkReport:
    """Time everything alone and side by side, print the figures, and write them to a file.

    Raises:
        ConfigError: A setting is unknown or has a wrong value, or the file cannot be written.
        ClusterError: Ray does not start.
    """
    config = read_config(ScheduleBenchmarkConfig, words, is_full)
    report = measure(config, step_printer(console))
    console.print(_describe(config, report.figures), soft_wrap=True, highlight=False)
    return finish(report, config.out, console)


def measure(config: ScheduleBenchmarkConfig, begin: Begin) -> BenchmarkReport:
    """Time the same tasks alone and side by side on an embedded Ray.

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
        rounds: dict[str, list[_Round]] = {"decoded": [], "not_decoded": []}
        number = 0
        for repeat in range(config.repeats):
            for name, of_kind in rounds.items():
                begin(f"round {repeat + 1} of {config.repeats}, shards {name.replace('_', ' ')}")
                # Weights are kept by content: each measurement has a folder of its own. Shards are kept by
                # their images: those of another size are not decoded yet.
                sizes = [_SHARD_IMAGES] * 2
                if name == "not_decoded":
                    sizes = [_SHARD_IMAGES - number - 1, _SHARD_IMAGES - number - 2]
                    number += 2
                folders = [Path(folder) / f"{name}-{repeat}-{i}" for i in range(2)]
                alone, beside = (_tasks(pool, config, place, base) for place in folders)
                search_alone = _search_alone(table)
                fine_tunes_alone = _train(pool, alone, sizes[0])
                walls = _side_by_side(pool, table, beside, sizes[1])
                of_kind.append(_Round(search_alone, fine_tunes_alone, *walls))
    figures: dict[str, Any] = {
        name: {
            "rounds": [asdict(measured) for measured in of_kind],
            "ratio": median(measured.ratio for measured in of_kind),
        }
        for name, of_kind in rounds.items()
    }
    bars = tuple(
        Bar(
            f"search and fine-tunes, x the longer alone, shards {name.replace('_', ' ')}",
            figures[name]["ratio"],
            "<=",
            _MOST_RATIO,
        )
        for name in rounds
    )
    return BenchmarkReport(config.model_dump(mode="json"), bars, figures)


def _describe(config: ScheduleBenchmarkConfig, figures: Mapping[str, Any]) -> str:
    lines = []
    for name, figure in figures.items():
        seconds = {
            key: f"{median(measured[key] for measured in figure['rounds']):.1f} s"
            for key in ("search_alone", "fine_tunes_alone", "search", "fine_tunes")
        }
        lines.append(
            f"shards {name.replace('_', ' ')}: alone the search takes {seconds['search_alone']} and "
            f"{config.num_clusters} fine-tunes on {config.hosts} hosts take {seconds['fine_tunes_alone']}; side by "
            f"side they are done after {seconds['search']} and {seconds['fine_tunes']}: {figure['ratio']:.2f} "
            f"times the longer one (medians of {config.repeats})."
        )
    return "\n".join(lines)


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


def _train(pool: Pool, tasks: tuple[TrainTask, ...], shard_images: int = _SHARD_IMAGES) -> float:
    """Train on shards of so many images, and give the seconds that it took."""
    started = time.perf_counter()
    ids = np.unique(np.concatenate([task.images.image_ids for task in tasks]))
    for _ in pool.train(tasks, plan_shards(ids.tolist(), shard_images)):
        pass
    return time.perf_counter() - started


def _search_alone(table: OutrankingTable) -> float:
    started = time.perf_counter()
    start_search(table, _SEARCH).result()
    return time.perf_counter() - started


def _side_by_side(
    pool: Pool, table: OutrankingTable, tasks: tuple[TrainTask, ...], shard_images: int
) -> tuple[float, float]:
    """Give the seconds until the search, and until the fine-tunes, were done."""
    started, seconds = time.perf_counter(), list[float]()
    search = start_search(table, _SEARCH)

    def wait() -> None:
        search.result()
        seconds.append(time.perf_counter() - started)

    waiting = threading.Thread(target=wait)
    waiting.start()
    fine_tunes = _train(pool, tasks, shard_images)
    waiting.join()
    return seconds[0], fine_tunes
