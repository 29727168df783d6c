"""`ensemble benchmark search`: the speed of the searches, and their errors on real predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from ensemble.outranking.table import OutrankingTable
from ensemble.statistics import MeanSd
from jobs.benchmark import search_quality as quality
from jobs.benchmark import search_speed as speed
from jobs.benchmark.report import Begin, BenchmarkReport, finish, read_config, step_printer
from jobs.benchmark.search_settings import SearchBenchmarkConfig


def benchmark_search(
    words: Sequence[str], console: Console, is_full: bool = False
) -> BenchmarkReport:
    """Time the searches and judge them on real predictions, print the figures, and write them to a file.

    Raises:
        ConfigError: A setting is unknown or has a wrong value, or a file cannot be read or written.
    """
    config = read_config(SearchBenchmarkConfig, words, is_full)
    report = measure(config, step_printer(console))
    console.print(_seconds_table(report.figures["seconds"]))
    console.print(_scales(config), soft_wrap=True, highlight=False)
    if "real" in report.figures:
        for name, results in report.figures["real"]["results"].items():
            console.print(_real_table(name, report.figures["real"]["images"], config, results))
    return finish(report, config.out, console)


def measure(config: SearchBenchmarkConfig, begin: Begin) -> BenchmarkReport:
    """Time the searches on a synthetic pool, and judge them on real predictions where there are some.

    Raises:
        ConfigError: The real predictions cannot be read.
    """
    table = quality.load_table(config.predictions) if config.predictions else None
    begin(f"making {config.members} x {config.images:,} x {config.classes:,} predictions")
    times = speed.measure(config, speed.make_pool(config), begin)
    figures: dict[str, Any] = {"seconds": speed.summarise(times), **times.figures}
    left_out = []
    if table is None:
        left_out.append("the searches on real predictions, because predictions=FILE is not set.")
    else:
        figures["real"] = _judge(config, table, begin)
    if "caruana_50_autogluon" not in times.seconds:
        left_out.append(
            "AutoGluon, which the bar of Caruana is set for, because it is not installed; the "
            "algorithm as published stands for it. pip install -e '.[benchmark]' installs it."
        )
    bars = speed.bars(config, times)
    return BenchmarkReport(config.model_dump(mode="json"), bars, figures, tuple(left_out))


def _judge(config: SearchBenchmarkConfig, table: OutrankingTable, begin: Begin) -> dict[str, Any]:
    results = {
        f"top_{k}": quality.halves(table, k, config.halves, config.seed, begin)
        for k in sorted({1, config.k})
    }
    return {
        "members": quality.POOL,
        "images": table.num_images,
        "halves": config.halves,
        "results": {
            name: {key: asdict(result) for key, result in of_k.items()}
            for name, of_k in results.items()
        },
    }


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


def _real_table(
    name: str, images: int, config: SearchBenchmarkConfig, results: Mapping[str, Any]
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
        "minus paper",
        "held-out NLL",
    ):
        table.add_column(column, justify="left" if column == "predictor" else "right")
    for key, row in sorted(results.items(), key=lambda item: -item[1]["held_out"]["mean"]):
        table.add_row(
            key,
            *(
                _percent(MeanSd(**row[part]))
                for part in ("fitted", "held_out", "against_selected", "against_paper")
            ),
            str(MeanSd(**row["nll"])).split(" (n")[0],
        )
    table.caption = "mean ± sd, per cent; the halves overlap, so the sd is not a standard error"
    return table


def _percent(value: MeanSd) -> str:
    return f"{100 * value.mean:.3f} ± {100 * (value.sd or 0):.3f}"
