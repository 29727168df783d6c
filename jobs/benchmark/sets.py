"""`ensemble benchmark sets`: whether conformal sets hold the label as often as they state, on images they never saw.

The pool is that of real top-k lists, or a synthetic one.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field, NonNegativeInt, PositiveInt
from rich.console import Console

from ensemble.cascade.readings import Window
from ensemble.evaluation.conformal import JudgedSets, SetCounts, fit_conformal
from ensemble.outranking.builder import OutrankingBuilder
from ensemble.search.fit import fit as fit_weights
from ensemble.search.settings import SearchConfig, SearchKind
from ensemble.statistics import mean_sd
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
from jobs.benchmark.top_k_lists import POOL, load_windows, read_lists

_POINTS_BAR, _NEAR_BAR = 1.0, 0.9
_BLOCK_IMAGES = 1000

MeanOf = Callable[[Float[np.ndarray, " member"]], Float[np.ndarray, "image class"]]


class SetsBenchmarkConfig(BenchmarkConfig):
    """The pool, and what the sets state."""

    full_size: ClassVar = {"halves": 20}

    predictions: Path | None = None
    """An .npz of real top-k predictions, as `ensemble benchmark pools` takes it."""
    images: PositiveInt = 8000
    """Images of the synthetic pool, which is taken where `predictions` is not set."""
    classes: Annotated[int, Field(ge=12)] = 100
    """Classes of the synthetic pool."""
    members: Annotated[int, Field(ge=2)] = 8
    """Members of the synthetic pool."""
    halves: PositiveInt = 2
    """Random halves: weights and sets are fitted on one half and judged on the other."""
    search: SearchKind = "caruana"
    """The search that finds the weights of the ensemble."""
    coverage: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Probability of holding the label that the sets state."""
    seed: NonNegativeInt = 0
    """Seed of the halves."""
    out: Path = Path("sets-benchmark.json")
    """JSON file that the bars and figures are written to."""


@dataclass(frozen=True)
class _Pool:
    """Predictions of members: windows that weights are fitted on, and the weighted mean over all classes."""

    names: tuple[str, ...]
    windows: Sequence[Window]
    labels: Int[np.ndarray, " image"]
    mean: MeanOf


def benchmark_sets(
    words: Sequence[str], console: Console, is_full: bool = False
) -> BenchmarkReport:
    """Fit and judge conformal sets, print the figures, and write them to a file.

    Raises:
        ConfigError: A setting is unknown or has a wrong value, or the file cannot be read.
    """
    config = read_config(SetsBenchmarkConfig, words, is_full)
    begin = step_printer(console)
    pool = _lists(config.predictions, begin) if config.predictions else _synthetic(config, begin)
    judged = list(_judged(config, pool, begin))
    figures: dict[str, Any] = {"splits": [asdict(split) for split in judged]}
    for name in ("coverage", "mean_size", "naive_coverage", "naive_mean_size"):
        factor = 100 if "coverage" in name else 1
        summary = mean_sd([factor * getattr(split, name) for split in judged])
        figures[name] = asdict(summary)
        console.print(f"{name}: {summary}{' %' if factor == 100 else ' classes'}")
    points = 100 * np.array([split.coverage - config.coverage for split in judged])
    bars = (
        Bar("mean coverage, points from the stated one", abs(float(points.mean())), "<=", 1.0),
        Bar(
            f"share of the splits within {_POINTS_BAR:g} point of it",
            float((np.abs(points) <= _POINTS_BAR).mean()),
            ">=",
            _NEAR_BAR,
        ),
    )
    return finish(
        BenchmarkReport(config.model_dump(mode="json"), bars, figures), config.out, console
    )


def _lists(path: Path, begin: Begin) -> _Pool:
    begin(f"reading {path}")
    lists = read_lists(path)
    return _Pool(POOL, load_windows(path), lists.labels, lists.mean)


def _synthetic(config: SetsBenchmarkConfig, begin: Begin) -> _Pool:
    begin(f"making {config.members} x {config.images:,} x {config.classes:,} predictions")
    pool = SyntheticPool(config.members, config.classes, seed=config.seed)
    labels = pool.labels(config.images)
    columns = list(pool.columns(labels))
    parts = [slice(i, i + _BLOCK_IMAGES) for i in range(0, config.images, _BLOCK_IMAGES)]
    windows: list[Window] = [([column[part] for column in columns], labels[part]) for part in parts]

    def mean(weights: Float[np.ndarray, " member"]) -> Float[np.ndarray, "image class"]:
        return sum(
            weight * np.exp(column.astype(np.float64))
            for weight, column in zip(weights, columns, strict=True)
        )

    return _Pool(tuple(f"m{number}" for number in range(config.members)), windows, labels, mean)


def _judged(config: SetsBenchmarkConfig, pool: _Pool, begin: Begin) -> Iterator[JudgedSets]:
    """Fit weights and sets on a half of the images, and judge them on the other, so often as is asked for."""
    rng, num_images = np.random.default_rng(config.seed), len(pool.labels)
    starts = np.cumsum([0, *(len(labels) for _, labels in pool.windows)])
    for number in range(config.halves):
        begin(f"halves {number + 1} of {config.halves}")
        is_seen = np.zeros(num_images, dtype=np.bool_)
        is_seen[rng.permutation(num_images)[: num_images // 2]] = True
        builder = OutrankingBuilder(pool.names)
        for (columns, labels), start in zip(pool.windows, starts, strict=False):
            part = is_seen[start : start + len(labels)]
            builder.add([column[part] for column in columns], labels[part])
        weighting = fit_weights(builder.finish(), SearchConfig(kind=config.search)).weighting
        probabilities = pool.mean(weighting.units / weighting.units.sum())
        sets = fit_conformal(probabilities[is_seen], pool.labels[is_seen], config.coverage)
        counts = SetCounts(sets)
        counts.add(probabilities[~is_seen], pool.labels[~is_seen])
        yield counts.judge()
