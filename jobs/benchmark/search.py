"""`ensemble benchmark search`: the speed of the search, and its honesty on real predictions."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from rich.console import Console
from rich.table import Table

from ensemble.config import check
from ensemble.files import write_atomic
from ensemble.statistics import MeanSd
from jobs.benchmark import search_quality as real
from jobs.benchmark import search_speed as speed
from jobs.benchmark.search_settings import SearchBenchmarkConfig
from jobs.search_settings import read_settings


def benchmark_search(words: Sequence[str], console: Console) -> dict[str, Any]:
    """Measure, print, and write the figures to a file.

    Raises:
        ConfigError: A setting is wrong, or the real predictions cannot be read.
    """
    config = check(SearchBenchmarkConfig, read_settings(words), "the command")
    table = real.load_table(config.predictions) if config.predictions else None
    console.print(f"making up {config.members} x {config.images:,} x {config.classes:,} …")
    times = speed.measure(config, speed.make_pool(config))
    bars = speed.bars(config, times)
    document: dict[str, Any] = {
        "schema_version": 1,
        "settings": config.model_dump(mode="json"),
        "machine": {
            "platform": platform.platform(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "numpy": version("numpy"),
        },
        "seconds": speed.summarise(times, sorted(times.seconds)),
        "figures": times.figures,
        "bars": [
            {
                "name": name,
                "measured": value,
                "compare": how,
                "bar": bar,
                "met": is_met(value, how, bar),
            }
            for name, value, how, bar in bars
        ],
    }
    console.print(_bars_table(config, bars))
    console.print(_seconds_table(times))
    if table is not None:
        results = {
            f"top_{k}": real.halves(table, k, config.halves, config.seed)
            for k in sorted({1, config.k})
        }
        document["real"] = {
            "members": real.POOL,
            "images": table.num_images,
            "halves": config.halves,
            "results": {
                name: {key: asdict(result) for key, result in found.items()}
                for name, found in results.items()
            },
        }
        for name, found in results.items():
            console.print(_real_table(name, table.num_images, config, found))
    write_atomic(config.out, json.dumps(document, indent=2) + "\n")
    console.print(f"figures: {config.out}", soft_wrap=True, highlight=False)
    return document


def is_met(value: float, how: str, bar: float) -> bool:
    """Tell whether a bar is met."""
    return value >= bar if how == ">=" else value <= bar


def _bars_table(
    config: SearchBenchmarkConfig, bars: Sequence[tuple[str, float, str, float]]
) -> Table:
    table = Table(title=f"Bars, medians of {config.repeats} rounds", title_justify="left")
    for column in ("what", "measured", "bar", "met"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for name, value, how, bar in bars:
        met = "yes" if is_met(value, how, bar) else "NO"
        table.add_row(name, f"{value:,.4g}", f"{how} {bar:,g}", met)
    images = min(config.topk_images, config.images)
    table.caption = (
        f"torch.topk: one weight on {images:,} of {config.images:,} images, scaled by "
        f"{config.images / images:g} x {speed.GRID_WEIGHTS}; Caruana: all rounds on "
        f"{min(config.caruana_images, config.images):,}; {config.threads} threads"
    )
    if any(name.endswith("x plain") for name, *_ in bars):
        table.caption += (
            ". AutoGluon, whose the bar of Caruana is, is not installed: the algorithm as published "
            "stands for it. Install it with pip install -e '.\\[benchmark]'"
        )
    return table


def _seconds_table(times: speed.Times) -> Table:
    table = Table(title="Wall time, ms", title_justify="left")
    for column in ("what", "median", "min", "rounds"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for name, row in speed.summarise(times, list(times.seconds)).items():
        table.add_row(
            name, f"{1e3 * row['median']:,.1f}", f"{1e3 * row['min']:,.1f}", str(row["rounds"])
        )
    return table


def _real_table(
    name: str, images: int, config: SearchBenchmarkConfig, found: dict[str, real.HalvesResult]
) -> Table:
    table = Table(
        title=f"{name} error, {images:,} real images, {config.halves} random halves, seed {config.seed}",
        title_justify="left",
    )
    for column in (
        "predictor",
        "where fitted",
        "held out",
        "minus uniform_selected",
        "held-out NLL",
    ):
        table.add_column(column, justify="left" if column == "predictor" else "right")
    for key, result in sorted(found.items(), key=lambda item: -item[1].held_out.mean):
        table.add_row(
            key,
            _percent(result.fitted),
            _percent(result.held_out),
            _percent(result.against_selected),
            str(result.nll).split(" (n")[0],
        )
    table.caption = "mean ± sd, per cent; the halves overlap, so the sd is not a standard error"
    return table


def _percent(value: MeanSd) -> str:
    return f"{100 * value.mean:.3f} ± {100 * (value.sd or 0):.3f}"
