"""`ensemble benchmark pools`: what each search gives on images that its weights were not fitted on.

A pool is that of finished runs, imported ones among them, that of real top-k lists, or a synthetic one.
Every search is fitted on means of probabilities and of logarithms. The tables that are printed are those
of `jobs/configs/README.md`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from jaxtyping import Int
from pydantic import Field, NonNegativeInt, PositiveInt
from rich.console import Console

from ensemble.errors import ConfigError
from ensemble.outranking.builder import from_columns
from ensemble.outranking.combine import Combine
from ensemble.outranking.table import OutrankingTable
from jobs.benchmark.pool_rows import (
    AUTO,
    BEST,
    PoolJudge,
    PoolRow,
    SplitPool,
    row_of,
    to_markdown,
)
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
from jobs.benchmark.top_k_lists import load_table
from jobs.stored_runs.finished import (
    FinishedRun,
    fit_temperatures,
    open_finished_run,
    read_outranking,
)

_BOTH: tuple[Combine, ...] = ("probabilities", "logs")


class PoolsBenchmarkConfig(BenchmarkConfig):
    """The pool, and how it is divided into images to fit on and images to judge on."""

    full_size: ClassVar = {"halves": 20, "resamples": 2000}

    runs: tuple[str, ...] = ()
    """Folders of finished runs of one pool, or s3://bucket/prefix of each: one run for each seed. Weights are
    fitted on the search split and judged on the test split of each."""
    predictions: Path | None = None
    """An .npz of real top-k predictions (`models`, `classes`, `probabilities`, `labels`) of 13 ImageNet classifiers,
    which are divided into halves."""
    images: PositiveInt = 4000
    """Images of the synthetic pool, which is taken where neither `runs` nor `predictions` are set."""
    classes: Annotated[int, Field(ge=12)] = 100
    """Classes of the synthetic pool."""
    members: Annotated[int, Field(ge=2)] = 13
    """Members of the synthetic pool."""
    halves: PositiveInt = 3
    """Random halves of the lists or of the synthetic pool: weights are fitted on one half and judged on the other."""
    k: Annotated[int, Field(ge=1, le=10)] = 5
    """Searches lower the top-k error, and, in a second table, the top-1 error."""
    temperature: bool | None = None
    """Fit a temperature to each member of a run on its search split; as the run did if not set."""
    seed: NonNegativeInt = 0
    """Seed of the halves, of the searches and of the bootstrap."""
    resamples: PositiveInt = 1000
    """Bootstrap samples of each paired interval."""
    out: Path = Path("pools-benchmark.json")
    """JSON file that the bars and figures are written to."""


def benchmark_pools(
    words: Sequence[str], console: Console, is_full: bool = False
) -> BenchmarkReport:
    """Fit and judge every search, print a table in Markdown, and write the figures to a file.

    Raises:
        ConfigError: A setting is unknown or has a wrong value, or a file or run cannot be read.
    """
    config = read_config(PoolsBenchmarkConfig, words, is_full)
    rows, num_images = _measure(config, step_printer(console))
    for line in to_markdown(rows):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    for k, of_k in rows.items():
        for row in of_k:
            if row.took:
                taken = ", ".join(f"{search}: {times}" for search, times in row.took.items())
                line = f"top-{k}: auto of {row.means} took {taken}"
                console.print(line, soft_wrap=True, highlight=False, markup=False)
    figures: dict[str, Any] = {
        "images": num_images,
        "splits": rows[config.k][0].error.n,
        "rows": {f"top_{k}": [asdict(row) for row in of_k] for k, of_k in rows.items()},
    }
    bars = tuple(bar for k, of_k in rows.items() for bar in _bars(k, of_k))
    return finish(
        BenchmarkReport(config.model_dump(mode="json"), bars, figures), config.out, console
    )


def _bars(k: int, rows: Sequence[PoolRow]) -> tuple[Bar, ...]:
    """What `auto` promises: it is no worse than the best member, and not shown to be worse than `paper`."""
    auto, best = row_of(rows, AUTO), row_of(rows, BEST)
    gain = 100 * (auto.error.mean - best.error.mean)
    return (
        Bar(f"top-{k}, auto minus the best member, points", gain, "<=", 0.0),
        Bar(
            f"top-{k}, auto minus paper, lower end of the interval, points",
            100 * auto.against_paper.low,
            "<=",
            0.0,
        ),
    )


def _measure(config: PoolsBenchmarkConfig, begin: Begin) -> tuple[dict[int, list[PoolRow]], int]:
    splits, num_images = _splits(config, begin)
    judges = {
        k: PoolJudge(num_images, k, config.resamples, config.seed) for k in sorted({1, config.k})
    }
    for name, split in splits:
        split.search.checked_k(config.k)  # before the search for the top-1 error takes its time
        for k, judge in judges.items():
            begin(f"{name}: searches for the top-{k} error")
            judge.add(split)
    begin("paired intervals")
    return {k: judge.rows() for k, judge in judges.items()}, num_images


def _splits(
    config: PoolsBenchmarkConfig, begin: Begin
) -> tuple[Iterator[tuple[str, SplitPool]], int]:
    """Give the splits with their names, one after the other, and count the images of all."""
    if config.runs and config.predictions:
        raise ConfigError(
            f"runs={list(config.runs)} and predictions={config.predictions} are two pools; set one."
        )
    if config.runs:
        return _of_runs(config, begin)
    if config.predictions:
        begin(f"reading {config.predictions}")
        table = load_table(config.predictions)
    else:
        begin(f"making {config.members} x {config.images:,} x {config.classes:,} predictions")
        table = _synthetic(config)
    return _halves(table, config.halves, config.seed), table.num_images


def _synthetic(config: PoolsBenchmarkConfig) -> OutrankingTable:
    pool = SyntheticPool(config.members, config.classes, seed=config.seed)
    labels = pool.labels(config.images)
    columns = {f"m{number}": column for number, column in enumerate(pool.columns(labels))}
    return from_columns(columns, labels, combines=_BOTH)


def _halves(table: OutrankingTable, num_halves: int, seed: int) -> Iterator[tuple[str, SplitPool]]:
    rng, places = np.random.default_rng(seed), np.arange(table.num_images)
    for number in range(1, num_halves + 1):
        half = np.zeros(table.num_images, dtype=np.int64)
        half[rng.permutation(table.num_images)[: table.num_images // 2]] = 1
        search, test = table.reweighted(half), table.reweighted(1 - half)
        yield f"halves {number} of {num_halves}", SplitPool(search, test, places)


def _of_runs(
    config: PoolsBenchmarkConfig, begin: Begin
) -> tuple[Iterator[tuple[str, SplitPool]], int]:
    runs = []
    for place in config.runs:
        begin(f"opening {place}")
        runs.append(open_finished_run(place))
    _check_runs(config.runs, runs)
    ids = np.unique(np.concatenate([run.splits.test.image_ids for run in runs]))
    splits = (
        (place, _of_run(run, config, np.searchsorted(ids, run.splits.test.image_ids)))
        for place, run in zip(config.runs, runs, strict=True)
    )
    return splits, len(ids)


def _check_runs(places: Sequence[str], runs: Sequence[FinishedRun]) -> None:
    """Refuse runs that are not seeds of one pool."""
    pools = {tuple(column.member for column in run.columns) for run in runs}
    if len(pools) > 1:
        raise ConfigError(
            f"the runs {list(places)} have different members: {sorted(map(list, pools))}. Expected runs "
            "of one config that differ in their seed."
        )
    if len({(run.files.url, run.name) for run in runs}) < len(runs):
        raise ConfigError(f"runs={list(places)} names a run twice; name each once.")


def _of_run(
    run: FinishedRun, config: PoolsBenchmarkConfig, places: Int[np.ndarray, " image"]
) -> SplitPool:
    is_calibrated = run.config.temperature if config.temperature is None else config.temperature
    images = run.splits.search
    # With the seed of the run, so that members answer at its temperatures.
    temperatures = fit_temperatures(run, images, run.config.seed) if is_calibrated else {}
    search, test = (
        read_outranking(run, part, temperatures, _BOTH) for part in (images, run.splits.test)
    )
    return SplitPool(search, test, places)
