"""`ensemble benchmark cascade`: what cascades save, and whether their promise holds on images they never saw.

The pool is that of real top-k lists, priced with published multiplications, or a synthetic one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt
from rich.console import Console

from ensemble.cascade.fit import Cascade, fit, fit_to_error, orders
from ensemble.cascade.readings import Readings, Window, read
from ensemble.cascade.thresholds import effect
from ensemble.outranking import measures
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
from jobs.benchmark.top_k_lists import GIGA_MULTIPLICATIONS, POOL, load_windows

SPEEDUP_BAR, HELD_BAR = 3.0, 0.9
_BLOCK_IMAGES = 1000


class CascadeBenchmarkConfig(BenchmarkConfig):
    """The pool, and what may be lost."""

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
    """Random halves: weights and thresholds are fitted on one half and judged on the other."""
    search: SearchKind = "caruana"
    """The search that finds the weights of the ensemble."""
    lose: Annotated[float, Field(gt=0, lt=100)] = 0.1
    """Percentage points of error that may be lost to the whole ensemble."""
    seed: NonNegativeInt = 0
    """Seed of the halves."""
    out: Path = Path("cascade-benchmark.json")
    """JSON file that the bars and figures are written to."""


@dataclass(frozen=True)
class Split:
    """One split, judged on the images that nothing was fitted on.

    Attributes:
        speedup: Compute of the whole ensemble, x the cascade's.
        loss_points: Points of error lost to the whole ensemble.
        equal_speedup: Compute of the best member, x that of a cascade fitted to its error.
        equal_loss_points: Points of error that cascade loses to the best member.
        ensemble_error: Error rate of the whole ensemble.
        best_error: Error rate of the best member.
        signal: What the cascade stops by.
        steps: Number of its steps.
    """

    speedup: float
    loss_points: float
    equal_speedup: float
    equal_loss_points: float
    ensemble_error: float
    best_error: float
    signal: str
    steps: int


def benchmark_cascade(
    words: Sequence[str], console: Console, is_full: bool = False
) -> BenchmarkReport:
    """Fit and judge cascades, print the figures, and write them to a file.

    Raises:
        ConfigError: A setting is unknown or has a wrong value, or the file cannot be read.
    """
    config = read_config(CascadeBenchmarkConfig, words, is_full)
    begin = step_printer(console)
    windows, costs = _pool(config, begin)
    splits = list(_splits(config, windows, costs, begin))
    figures: dict[str, Any] = {"splits": [asdict(split) for split in splits]}
    for name in ("speedup", "loss_points", "equal_speedup", "equal_loss_points"):
        summary = mean_sd([getattr(split, name) for split in splits])
        figures[name] = asdict(summary)
        console.print(f"{name}: {summary}")
    speedup = float(np.mean([split.speedup for split in splits]))
    loss = float(np.mean([split.loss_points for split in splits]))
    held = float(np.mean([split.loss_points <= config.lose for split in splits]))
    bars = (
        Bar("compute of the whole ensemble, x the cascade's", speedup, ">=", SPEEDUP_BAR),
        Bar("points of error lost, mean", loss, "<=", config.lose),
        Bar("share of the splits that lose no more than was promised", held, ">=", HELD_BAR),
    )
    return finish(
        BenchmarkReport(config.model_dump(mode="json"), bars, figures), config.out, console
    )


def _pool(config: CascadeBenchmarkConfig, begin: Begin) -> tuple[list[Window], tuple[float, ...]]:
    if config.predictions:
        begin(f"reading {config.predictions}")
        return [*load_windows(config.predictions)], GIGA_MULTIPLICATIONS
    begin(f"making {config.members} x {config.images:,} x {config.classes:,} predictions")
    pool = SyntheticPool(config.members, config.classes, seed=config.seed)
    labels = pool.labels(config.images)
    columns = list(pool.columns(labels))
    costs = tuple(np.geomspace(1, 20, config.members).tolist())
    parts = [slice(i, i + _BLOCK_IMAGES) for i in range(0, config.images, _BLOCK_IMAGES)]
    windows: list[Window] = [([column[part] for column in columns], labels[part]) for part in parts]
    return windows, costs


def _splits(
    config: CascadeBenchmarkConfig,
    windows: Sequence[Window],
    costs: Sequence[float],
    begin: Begin,
) -> Iterator[Split]:
    num_images = sum(len(labels) for _, labels in windows)
    names = POOL if config.predictions else tuple(f"m{i}" for i in range(len(costs)))
    rng = np.random.default_rng(config.seed)
    for number in range(config.halves):
        begin(f"halves {number + 1} of {config.halves}")
        order = rng.permutation(num_images)
        half = np.zeros(num_images, dtype=bool)
        half[order[: num_images // 2]] = True
        seen, unseen = _part(windows, half), _part(windows, ~half)
        builder = OutrankingBuilder(names)
        for columns, labels in seen:
            builder.add(columns, labels)
        table = builder.finish()
        weighting = fit_weights(table, SearchConfig(kind=config.search)).weighting
        errors = measures.member_errors(table, 1).tolist()
        fitted = read(seen, weighting, costs, orders(weighting, costs, errors))
        best = int(np.argmin(errors))
        promised = fit(fitted, config.lose / 100, config.seed)
        full_error = float(fitted[0].is_error[-1].mean())
        # An ensemble that is no better than its best member cannot be cut at all.
        target = max(errors[best] / table.num_images, full_error + config.lose / 100)
        equal = fit_to_error(fitted, target, config.seed)
        (promised_on,) = read(unseen, weighting, costs, [promised.order])
        (equal_on,) = read(unseen, weighting, costs, [equal.order])
        rows = np.concatenate(
            [columns[best].argmax(axis=1) != labels for columns, labels in unseen]
        )
        yield _judge(promised, promised_on, equal, equal_on, float(rows.mean()), costs[best])


def _judge(
    promised: Cascade,
    promised_on: Readings,
    equal: Cascade,
    equal_on: Readings,
    best_error: float,
    best_cost: float,
) -> Split:
    judged = effect(promised_on, promised.signal, promised.thresholds)
    cheap = effect(equal_on, equal.signal, equal.thresholds)
    full_error = float(promised_on.is_error[-1].mean())
    return Split(
        speedup=promised.full_cost / judged.cost,
        loss_points=100 * judged.loss,
        equal_speedup=best_cost / cheap.cost,
        equal_loss_points=100 * (full_error + cheap.loss - best_error),
        ensemble_error=full_error,
        best_error=best_error,
        signal=promised.signal,
        steps=len(promised.order),
    )


def _part(windows: Sequence[Window], is_in: np.ndarray) -> list[Window]:
    parts: list[Window] = []
    start = 0
    for columns, labels in windows:
        chosen = is_in[start : start + len(labels)]
        parts.append(([column[chosen] for column in columns], labels[chosen]))
        start += len(labels)
    return parts
