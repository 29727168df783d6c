"""Fine-tunes and the search side by side, on the digits and a synthetic pool."""

import tempfile
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cluster.pool.pool import Pool, open_pool
from cluster.search_task import Searcher
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
from jobs.benchmark.report import Begin
from jobs.benchmark.schedule_settings import ScheduleBenchmarkConfig
from jobs.benchmark.synthetic_pool import SyntheticPool

_SHARD_IMAGES = 256
_SEARCH = SearchConfig(kind="auto")


@dataclass(frozen=True)
class Round:
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


def measure_side_by_side(config: ScheduleBenchmarkConfig, begin: Begin) -> dict[str, list[Round]]:
    """Time the same tasks alone and side by side on an embedded Ray, with decoded shards and without.

    Args:
        config: Sizes.
        begin: Told what begins.

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
        # As in a run: its process stands before the clock runs.
        searcher = Searcher()
        searcher.prepare()
        begin("training the base network")
        base = _tasks(pool, config, Path(folder), ())
        rounds: dict[str, list[Round]] = {"decoded": [], "not_decoded": []}
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
                search_alone = _search_alone(searcher, table)
                fine_tunes_alone = _train(pool, alone, sizes[0])
                walls = _side_by_side((pool, searcher), table, beside, sizes[1])
                of_kind.append(Round(search_alone, fine_tunes_alone, *walls))
    return rounds


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


def _search_alone(searcher: Searcher, table: OutrankingTable) -> float:
    started = time.perf_counter()
    searcher.start(table, _SEARCH).result()
    return time.perf_counter() - started


def _side_by_side(
    workers: tuple[Pool, Searcher],
    table: OutrankingTable,
    tasks: tuple[TrainTask, ...],
    shard_images: int,
) -> tuple[float, float]:
    """Give the seconds until the search, and until the fine-tunes, were done."""
    pool, searcher = workers
    started, seconds = time.perf_counter(), list[float]()
    search = searcher.start(table, _SEARCH)

    def wait() -> None:
        search.result()
        seconds.append(time.perf_counter() - started)

    waiting = threading.Thread(target=wait)
    waiting.start()
    fine_tunes = _train(pool, tasks, shard_images)
    waiting.join()
    return seconds[0], fine_tunes
