"""`ensemble benchmark schedule`: fine-tunes and the search side by side, against the longer of the two alone.

And the time from the last block of a large table to the first weights.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from jobs.benchmark.first_weights import measure_first_weights
from jobs.benchmark.report import (
    Bar,
    Begin,
    BenchmarkReport,
    finish,
    read_config,
    step_printer,
)
from jobs.benchmark.schedule_settings import ScheduleBenchmarkConfig
from jobs.benchmark.side_by_side import measure_side_by_side

# Side by side they are to take little more than the longer one alone.
_MOST_RATIO = 1.1
# The outranking table is to be nearly there when the last block is.
_MOST_BEYOND_SEARCH_S = 0.5
_MOST_DRIVER_MB = 100.0


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
    """Time the same tasks alone and side by side on an embedded Ray, and the first weights of a large table.

    Raises:
        ClusterError: Ray does not start.
    """
    rounds = measure_side_by_side(config, begin)
    sizes = config.search_members, config.table_images, config.table_classes
    with tempfile.TemporaryDirectory() as folder:
        first = measure_first_weights(sizes, config.hosts, Path(folder), begin)
    figures: dict[str, Any] = {
        name: {
            "rounds": [asdict(measured) for measured in of_kind],
            "ratio": median(measured.ratio for measured in of_kind),
        }
        for name, of_kind in rounds.items()
    }
    ratios = tuple(
        Bar(
            f"search and fine-tunes, x the longer alone, shards {name.replace('_', ' ')}",
            figures[name]["ratio"],
            "<=",
            _MOST_RATIO,
        )
        for name in rounds
    )

    bars = (
        *ratios,
        Bar(
            "last block to first weights, beyond the search, s",
            first.beyond_search_s,
            "<=",
            _MOST_BEYOND_SEARCH_S,
        ),
        Bar(
            "growth of the driver beside the outranking table, MB",
            first.driver_mb - first.table_mb,
            "<=",
            _MOST_DRIVER_MB,
        ),
    )
    figures["first_weights"] = asdict(first)
    return BenchmarkReport(config.model_dump(mode="json"), bars, figures)


def _describe(config: ScheduleBenchmarkConfig, figures: Mapping[str, Any]) -> str:
    first, lines = figures["first_weights"], []
    for name in ("decoded", "not_decoded"):
        figure = figures[name]
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
    lines.append(
        f"{config.search_members} members x {config.table_images:,} images x {config.table_classes:,} classes: "
        f"first weights {first['after_last_block_s']:.2f} s after the last block, of which the search takes "
        f"{first['search_s']:.2f} s; the driver grew by {first['driver_mb']:.0f} MB and holds an outranking table "
        f"of {first['table_mb']:.0f} MB; blocks took {first['kept_mb']:.0f} MB of the object store at most, and "
        f"{first['read_from_files']} were read from their files."
    )
    return "\n".join(lines)
