"""`ensemble benchmark search`: the speed of the outranking table and of the searches."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from jobs.benchmark import search_speed as speed
from jobs.benchmark.report import Begin, BenchmarkReport, finish, read_config, step_printer
from jobs.benchmark.search_settings import SearchBenchmarkConfig


def benchmark_search(
    words: Sequence[str], console: Console, is_full: bool = False
) -> BenchmarkReport:
    """Time the searches, print the figures, and write them to a file.

    Raises:
        ConfigError: A setting is unknown or has a wrong value, or the file cannot be written.
    """
    config = read_config(SearchBenchmarkConfig, words, is_full)
    report = measure(config, step_printer(console))
    console.print(_seconds_table(report.figures["seconds"]))
    console.print(_scales(config), soft_wrap=True, highlight=False)
    return finish(report, config.out, console)


def measure(config: SearchBenchmarkConfig, begin: Begin) -> BenchmarkReport:
    """Time the searches on a synthetic pool."""
    begin(f"making {config.members} x {config.images:,} x {config.classes:,} predictions")
    times = speed.measure(config, speed.make_pool(config), begin)
    figures: dict[str, Any] = {"seconds": speed.summarise(times), **times.figures}
    left_out = []
    if "caruana_50_autogluon" not in times.seconds:
        left_out.append(
            "AutoGluon, which the bar of Caruana is set for, because it is not installed; the "
            "algorithm as published stands for it. pip install -e '.[benchmark]' installs it."
        )
    bars = speed.bars(config, times)
    return BenchmarkReport(config.model_dump(mode="json"), bars, figures, tuple(left_out))


def _scales(config: SearchBenchmarkConfig) -> str:
    images = min(config.topk_images, config.images)
    return (
        f"torch.topk: one weight on {images:,} of {config.images:,} images, scaled by "
        f"{config.images / images:g} x {speed.GRID_WEIGHTS}; Caruana: all rounds on "
        f"{min(config.caruana_images, config.images):,}; {config.threads} threads; medians of "
        f"{config.repeats} rounds"
    )


def _seconds_table(seconds: Mapping[str, Mapping[str, float]]) -> Table:
    table = Table(title="Wall time, ms", title_justify="left")
    for column in ("what", "median", "min", "rounds"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for name, row in seconds.items():
        table.add_row(
            name, f"{1e3 * row['median']:,.1f}", f"{1e3 * row['min']:,.1f}", str(row["rounds"])
        )
    return table
