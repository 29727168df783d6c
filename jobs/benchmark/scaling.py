"""`ensemble benchmark scaling`: plans against a virtual clock, this machine and Ray Data; and what a driver adds."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from rich.console import Console
from rich.table import Table

from cluster.ray_data_baseline import explain_missing_ray_data
from jobs.benchmark.fleet import FleetFigures, FleetSize, measure_fleet
from jobs.benchmark.ray_data import compare
from jobs.benchmark.report import (
    Bar,
    Begin,
    BenchmarkConfig,
    BenchmarkReport,
    finish,
    read_config,
    step_printer,
)
from jobs.benchmark.spot_market import LOST_AN_HOUR, on_a_spot_market
from jobs.benchmark.synthetic_members import (
    COSTS_MS,
    Outcome,
    on_a_virtual_clock,
    with_real_processes,
)

# Hosts are busy nine tenths of the time, plans are right within 15 %, and Ray Data takes at least four
# times as many CPU seconds.
_LEAST_EFFICIENCY, _PLANNED, _MOST_CPU = 0.9, (0.85, 1.15), 0.25
# Hosts that sleep cost the driver next to nothing, and each of them adds what the first one gave.
_LEAST_LINEAR, _MOST_DRIVER_MS, _MOST_DRIVER_MB = 0.9, 2.0, 100.0
# Of the fleet whose driver's memory is measured: its hosts compute nothing, so that they write as fast as they can.
_WRITERS, _WRITTEN_IMAGES = 4, 128
# About nine seconds of sleep.
_SHARDS_A_HOST = 7
# Where other programs take more of the cores, the wall clock says nothing about a plan.
_MOST_OUTSIDE = 0.1


class ScalingBenchmarkConfig(BenchmarkConfig):
    """What is scheduled, and on how many hosts."""

    full_size: ClassVar = {
        "images": 900,
        "repeats": 3,
        "baseline_images": 1024,
        "spot_markets": 5,
        "fleet_hosts": (1, 4, 8, 16),
        "fleet_images": 50_000,
    }

    hosts: tuple[PositiveInt, ...] = (1, 2, 4)
    """Numbers of hosts on the virtual clock."""
    real_hosts: tuple[PositiveInt, ...] = Field((1, 2))
    """Numbers of host processes on this machine; none should exceed its idle cores."""
    shards: PositiveInt = 200
    """Shards of 128 images that are scheduled on the virtual clock."""
    spot_markets: NonNegativeInt = 1
    """Hours of 64 hosts on 8 machines on the virtual clock, of which a third of the machines is lost; the median
    is judged."""
    images: PositiveInt = 448
    """Images of digits that the host processes predict."""
    repeats: PositiveInt = 2
    """Times that the host processes predict them; medians are judged."""
    fleet_hosts: tuple[PositiveInt, ...] = (1, 4)
    """Numbers of hosts that sleep 0.1 s a block, with a store that takes 0.1 s to commit; the first is what the
    others are held to."""
    fleet_images: NonNegativeInt = 6_400
    """Images whose predictions by 13 members, of 1,000 classes, hosts write while the driver's memory is
    measured; 0 for none."""
    baseline: bool = True
    """Compare with Ray Data, which the extra 'benchmark' installs."""
    baseline_images: PositiveInt = 512
    """JPEG files that this system and Ray Data predict."""
    baseline_pixels: PositiveInt = 256
    """Side of these files, in pixels."""
    seed: NonNegativeInt = 0
    """Seed of the content of these files."""
    out: Path = Path("scaling-benchmark.json")
    """JSON file that the bars and figures are written to."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_old_names(cls, settings: dict[str, Any]) -> dict[str, Any]:
        for name in settings:
            if name == "rival" or name.startswith("rival_"):
                new = name.replace("rival", "baseline")
                raise ValueError(f"the setting {name} is called {new}; write {new}=...")
        return settings


def benchmark_scaling(
    words: Sequence[str], console: Console, is_full: bool = False
) -> BenchmarkReport:
    """Time plans and the whole system, print the figures, and write them to a file.

    Raises:
        ConfigError: A setting is unknown or has a wrong value, or the file cannot be written.
        ClusterError: Ray does not start.
    """
    config = read_config(ScalingBenchmarkConfig, words, is_full)
    report = measure(config, step_printer(console))
    _print_figures(config, report.figures, console)
    return finish(report, config.out, console)


def measure(config: ScalingBenchmarkConfig, begin: Begin) -> BenchmarkReport:
    """Carry out plans on a virtual clock and on this machine, and compare the whole with Ray Data.

    Raises:
        ClusterError: Ray does not start.
    """
    by_cpu, by_wall, baseline, left_out = [], [], None, []
    with tempfile.TemporaryDirectory(prefix="ens-bench-") as name:
        folder = Path(name)
        begin(f"virtual clock, {config.shards} shards")
        virtual = [_row([on_a_virtual_clock(count, config.shards)]) for count in config.hosts]
        spot = []
        for seed in range(1, config.spot_markets + 1):
            begin(f"64 hosts of a spot market, hour {seed} of {config.spot_markets}")
            spot.append(on_a_spot_market(seed))
        for count in config.real_hosts:
            cpu, wall = with_real_processes(count, config.images, config.repeats, folder, begin)
            by_cpu.append(_row(cpu))
            by_wall.append(_row(wall))
        fleets, written = _measure_fleets(config, folder, begin)
        missing = explain_missing_ray_data() if config.baseline else "baseline=false is set"
        if missing:
            left_out.append(f"the comparison with Ray Data, because {missing}.")
        else:
            sizes = (config.baseline_images, config.baseline_pixels, config.seed)
            baseline = compare(*sizes, folder, begin)
    bars = _plan_bars("virtual clock", virtual) + _plan_bars("CPU seconds", by_cpu)
    for row in by_wall:
        if row["outside"] <= _MOST_OUTSIDE:
            bars += _plan_bars("wall clock", [row])
        else:
            left_out.append(
                f"the judgement of the wall clock of {_hosts(row['hosts'])}, because other programs "
                f"took {row['outside']:.0%} of the cores."
            )
    if spot:
        efficiency = median(outcome.efficiency for outcome, _ in spot)
        what = f"64 hosts of a spot market, {LOST_AN_HOUR:.0%} lost an hour: efficiency"
        bars.append(Bar(what, efficiency, ">=", _LEAST_EFFICIENCY))
    bars += _fleet_bars(fleets, written)
    if baseline:
        different = 0 if baseline["same_rows"] else 1
        bars += [
            Bar("CPU seconds, x those of Ray Data", baseline["cpu_ratio"], "<=", _MOST_CPU),
            Bar("rows that differ from those of Ray Data, 0 or 1", different, "<=", 0),
        ]
    figures = {
        "virtual": virtual,
        "spot_markets": [asdict(outcome) | {"lost": lost} for outcome, lost in spot],
        "real_by_cpu": by_cpu,
        "real_by_wall": by_wall,
        "fleets": [asdict(fleet) for fleet in fleets],
        "written": asdict(written) if written else None,
        "baseline": baseline,
    }
    return BenchmarkReport(config.model_dump(mode="json"), tuple(bars), figures, tuple(left_out))


def _measure_fleets(
    config: ScalingBenchmarkConfig, folder: Path, begin: Begin
) -> tuple[list[FleetFigures], FleetFigures | None]:
    """Let hosts that sleep fill tables; the last figures are of hosts that write as fast as they can."""
    fleets, written = [], None
    for hosts in config.fleet_hosts:
        begin(f"{_hosts(hosts)}, asleep for each block")
        size = FleetSize(hosts, _SHARDS_A_HOST * hosts)
        fleets.append(measure_fleet(size, folder / f"fleet-{hosts}"))
    if config.fleet_images:
        begin(f"memory of a driver while 13 x {config.fleet_images:,} x 1,000 are written")
        shards = -(-config.fleet_images // _WRITTEN_IMAGES)
        size = FleetSize(_WRITERS, shards, _WRITTEN_IMAGES, block_ms=0, commit_s=0.0)
        written = measure_fleet(size, folder / "written")
    return fleets, written


def _fleet_bars(fleets: Sequence[FleetFigures], written: FleetFigures | None) -> list[Bar]:
    bars = []
    for fleet in fleets[1:]:
        ratio = fleet.blocks_per_s / fleet.hosts / (fleets[0].blocks_per_s / fleets[0].hosts)
        what = f"{_hosts(fleet.hosts)} asleep for each block: blocks/s, x linear"
        bars.append(Bar(what, ratio, ">=", _LEAST_LINEAR))
    if fleets:
        last = fleets[-1]
        what = f"{_hosts(last.hosts)} asleep for each block: CPU of the driver, ms a block"
        bars.append(Bar(what, last.driver_ms, "<=", _MOST_DRIVER_MS))
    if written:
        imports = int(written.driver_imports_torch)
        bars += [
            Bar(
                "growth of a driver while hosts write, MB", written.driver_mb, "<=", _MOST_DRIVER_MB
            ),
            Bar("torch imported by this driver, 0 or 1", imports, "<=", 0),
        ]
    return bars


def _plan_bars(clock: str, rows: Sequence[Mapping[str, Any]]) -> list[Bar]:
    bars = []
    for row in rows:
        where = f"{clock}, {_hosts(row['hosts'])}"
        planned = row["planned_over_seconds"]
        bars += [
            Bar(f"{where}: efficiency of the schedule", row["efficiency"], ">=", _LEAST_EFFICIENCY),
            Bar(f"{where}: planned / took, at least", planned, ">=", _PLANNED[0]),
            Bar(f"{where}: planned / took, at most", planned, "<=", _PLANNED[1]),
        ]
    return bars


def _hosts(count: int) -> str:
    return f"{count} host" if count == 1 else f"{count} hosts"


def _print_figures(
    config: ScalingBenchmarkConfig, figures: Mapping[str, Any], console: Console
) -> None:
    console.print(_schedules("On a virtual clock", figures["virtual"]))
    if config.real_hosts:
        medians = f"real processes, {os.cpu_count()} cores, medians of {config.repeats}"
        by_cpu, by_wall = figures["real_by_cpu"], figures["real_by_wall"]
        console.print(_schedules(f"CPU seconds of the busiest host, {medians}", by_cpu))
        console.print(_schedules(f"Wall seconds, {medians}", by_wall))
    for hour in figures["spot_markets"]:
        console.print(
            f"64 hosts on 8 machines, {hour['lost']} lost: {hour['seconds']:.0f} s, lower bound "
            f"{hour['lower_bound_s']:.0f} s",
            soft_wrap=True,
            highlight=False,
        )
    for fleet in figures["fleets"]:
        console.print(
            f"{_hosts(fleet['hosts'])}, asleep 0.1 s a block, a commit of 0.1 s: "
            f"{fleet['blocks_per_s']:.1f} blocks/s in {fleet['entries']} log entries, "
            f"{fleet['driver_ms']:.2f} ms CPU of the driver a block",
            soft_wrap=True,
            highlight=False,
        )
    if written := figures["written"]:
        console.print(
            f"13 x {config.fleet_images:,} x 1,000 written by {_hosts(_WRITERS)}: "
            f"{written['blocks_per_s']:.0f} blocks/s, the driver grew by {written['driver_mb']:.0f} MB, "
            f"{written['driver_ms']:.2f} ms of its CPU a block",
            soft_wrap=True,
            highlight=False,
        )
    if figures["baseline"]:
        ours, theirs = figures["baseline"]["ours"], figures["baseline"]["ray_data"]
        console.print(
            f"{len(COSTS_MS)} members on {config.baseline_images} JPEGs: {ours['cpu_s']:.1f} CPU-s "
            f"and {ours['wall_s']:.1f} s; Ray Data, a pipeline a member: {theirs['cpu_s']:.1f} CPU-s "
            f"and {theirs['wall_s']:.1f} s; ratio of CPU-s {figures['baseline']['cpu_ratio']:.3f}",
            soft_wrap=True,
            highlight=False,
        )


def _row(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "hosts": outcomes[0].hosts,
        "planned_s": median(outcome.planned_s for outcome in outcomes),
        "lower_bound_s": median(outcome.lower_bound_s for outcome in outcomes),
        "seconds": median(outcome.seconds for outcome in outcomes),
        "efficiency": median(outcome.efficiency for outcome in outcomes),
        "planned_over_seconds": median(outcome.planned_over_seconds for outcome in outcomes),
        "all_efficiencies": [outcome.efficiency for outcome in outcomes],
        "all_planned_over_seconds": [outcome.planned_over_seconds for outcome in outcomes],
        "outside": max(outcome.outside for outcome in outcomes),
    }


def _schedules(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    columns = ("hosts", "planned", "lower bound", "took", "efficiency", "planned / took", "outside")
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        spread = row["all_planned_over_seconds"]
        between = f" ({min(spread):.2f} to {max(spread):.2f})" if len(spread) > 1 else ""
        table.add_row(
            f"{row['hosts']:.0f}",
            f"{row['planned_s']:.2f} s",
            f"{row['lower_bound_s']:.2f} s",
            f"{row['seconds']:.2f} s",
            f"{row['efficiency']:.3f}",
            f"{row['planned_over_seconds']:.3f}{between}",
            f"{row['outside']:.0%}",
        )
    table.caption = "outside: the share of the cores that other programs took"
    return table
