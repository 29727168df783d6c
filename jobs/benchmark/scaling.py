"""`ensemble benchmark scaling`: plans against a virtual clock, against this machine, and against Ray Data."""

import json
import os
import platform
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import Field, NonNegativeInt, PositiveInt
from rich.console import Console
from rich.table import Table

from cluster.ray_data_baseline import require_ray_data
from ensemble.config import Config, check
from ensemble.files import write_atomic
from jobs.benchmark.ray_data import compare
from jobs.benchmark.synthetic_members import (
    COSTS_MS,
    Outcome,
    on_a_virtual_clock,
    with_real_processes,
)
from jobs.search_settings import read_settings

# The bars: hosts are busy nine tenths of the time, plans are right within 15 %, Ray Data takes four
# times the CPU.
_LEAST_EFFICIENCY, _PLANNED, _MOST_CPU = 0.9, (0.85, 1.15), 0.25
# With more of the cores taken by others the wall clock says nothing of a plan.
_MOST_OUTSIDE = 0.1


class ScalingBenchmarkConfig(Config):
    """What is scheduled, and on how many hosts."""

    hosts: tuple[PositiveInt, ...] = (1, 2, 4)
    """Hosts of the virtual clock."""
    real_hosts: tuple[PositiveInt, ...] = Field((1, 2))
    """Host processes on this machine; no more than it has idle cores."""
    shards: PositiveInt = 200
    """Of 128 images, on the virtual clock."""
    images: PositiveInt = 900
    """Digits that the real hosts predict."""
    repeats: PositiveInt = 3
    """Times that the real hosts do; medians are judged."""
    rival: bool = True
    """Compare with Ray Data, which must be there ('ray[data]')."""
    rival_images: PositiveInt = 1024
    """JPEG files that both decode."""
    rival_pixels: PositiveInt = 256
    """Their side."""
    seed: NonNegativeInt = 0
    """Of their content."""
    out: Path = Path("scaling-benchmark.json")
    """Where the figures go."""


def benchmark_scaling(words: Sequence[str], console: Console) -> dict[str, Any]:
    """Measure, print, and write the figures to a file.

    Raises:
        ConfigError: A setting is wrong, or Ray Data is not there.
    """
    config = check(ScalingBenchmarkConfig, read_settings(words), "the command")
    if config.rival:
        require_ray_data()
    folder = Path(tempfile.mkdtemp(prefix="ens-bench-"))
    by_cpu, by_wall, rival = [], [], None
    try:
        virtual = [_row([on_a_virtual_clock(count, config.shards)]) for count in config.hosts]
        console.print(_schedules("On a virtual clock", virtual))
        for count in config.real_hosts:
            cpu, wall = with_real_processes(count, config.images, config.repeats, folder)
            by_cpu.append(_row(cpu))
            by_wall.append(_row(wall))
        if config.real_hosts:
            medians = f"real processes, {os.cpu_count()} cores, medians of {config.repeats}"
            console.print(_schedules(f"CPU seconds of the busiest host, {medians}", by_cpu))
            console.print(_schedules(f"Wall seconds, {medians}", by_wall, is_wall=True))
        if config.rival:
            rival = compare(config.rival_images, config.rival_pixels, config.seed, folder)
            rival["is_met"] = rival["cpu_ratio"] <= _MOST_CPU and rival["same_rows"]
            _say_rival(config, rival, console)
    finally:
        shutil.rmtree(folder)
    document: dict[str, Any] = {
        "schema_version": 2,
        "settings": config.model_dump(mode="json"),
        "machine": {"platform": platform.platform(), "cores": os.cpu_count()},
        "virtual": virtual,
        "real_by_cpu": by_cpu,
        "real_by_wall": by_wall,
        "rival": rival,
    }
    write_atomic(config.out, json.dumps(document, indent=2) + "\n")
    return document


def _row(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    efficiency = median(outcome.efficiency for outcome in outcomes)
    planned = median(outcome.planned_over_seconds for outcome in outcomes)
    return {
        "hosts": outcomes[0].hosts,
        "planned_s": median(outcome.planned_s for outcome in outcomes),
        "lower_bound_s": median(outcome.lower_bound_s for outcome in outcomes),
        "seconds": median(outcome.seconds for outcome in outcomes),
        "efficiency": efficiency,
        "planned_over_seconds": planned,
        "all_efficiencies": [outcome.efficiency for outcome in outcomes],
        "all_planned_over_seconds": [outcome.planned_over_seconds for outcome in outcomes],
        "outside": max(outcome.outside for outcome in outcomes),
        "is_met": efficiency >= _LEAST_EFFICIENCY and _PLANNED[0] <= planned <= _PLANNED[1],
    }


def _schedules(title: str, rows: Sequence[dict[str, Any]], is_wall: bool = False) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left")
    columns = ("hosts", "planned", "lower bound", "took", "efficiency", "planned / took", "bars")
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        spread = row["all_planned_over_seconds"]
        between = f" ({min(spread):.2f} to {max(spread):.2f})" if len(spread) > 1 else ""
        is_judged = not is_wall or row["outside"] <= _MOST_OUTSIDE
        table.add_row(
            f"{row['hosts']:.0f}",
            f"{row['planned_s']:.2f} s",
            f"{row['lower_bound_s']:.2f} s",
            f"{row['seconds']:.2f} s",
            f"{row['efficiency']:.3f}",
            f"{row['planned_over_seconds']:.3f}{between}",
            _verdict(row["is_met"]) if is_judged else f"not judged, {row['outside']:.0%} outside",
        )
    table.caption = "bars: efficiency >= 0.9, and planned within 15 % of what it took" + (
        "; outside: other programs' share of the cores" if is_wall else ""
    )
    return table


def _say_rival(config: ScalingBenchmarkConfig, rival: dict[str, Any], console: Console) -> None:
    console.print(
        f"{len(COSTS_MS)} members on {config.rival_images} JPEGs: {rival['ours']['cpu_s']:.1f} "
        f"CPU-s and {rival['ours']['wall_s']:.1f} s; Ray Data, a pipeline a member: "
        f"{rival['ray_data']['cpu_s']:.1f} CPU-s and {rival['ray_data']['wall_s']:.1f} s; "
        f"ratio of CPU-s {rival['cpu_ratio']:.3f} (bar: <= {_MOST_CPU}), same rows: "
        f"{rival['same_rows']}; {_verdict(rival['is_met'])}",
        soft_wrap=True,
        highlight=False,
    )


def _verdict(is_met: bool) -> str:
    return "met" if is_met else "NOT MET"
