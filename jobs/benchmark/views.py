"""`ensemble benchmark views`: dense evaluation against explicit crops at the same positions, and ten_crop."""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, PositiveInt
from rich.console import Console
from rich.table import Table

from ensemble.errors import UnknownNameError
from jobs.benchmark.report import (
    Bar,
    Begin,
    BenchmarkConfig,
    BenchmarkReport,
    finish,
    read_config,
    step_printer,
)

# How many times as fast as the crops at its positions dense evaluation must be.
SPEED_BAR = 5.0

_COMPARED = {"crops": "crops at its positions", "ten_crop": "ten_crop"}


class ViewsBenchmarkConfig(BenchmarkConfig):
    """Which networks are timed, and at which size."""

    full_size: ClassVar = {"repeats": 3}

    architectures: Annotated[tuple[str, ...], Field(min_length=1)] = ("resnet50", "vgg16")
    """Networks of torchvision, with random weights: their time does not depend on the weights."""
    short_side: Annotated[int, Field(ge=224)] = 384
    """Side of the square image that is evaluated, in pixels."""
    input_size: PositiveInt = 224
    """Side of the networks' training input, in pixels."""
    stride: PositiveInt = 32
    """Pixels between neighbouring positions: the stride of the whole network."""
    threads: PositiveInt = 1
    """Threads of torch."""
    repeats: PositiveInt = 2
    """Rounds after one to warm up; all ways are timed in turn in each round, and medians are reported."""
    out: Path = Path("views-benchmark.json")
    """JSON file that the bars and figures are written to."""


def benchmark_views(
    words: Sequence[str], console: Console, is_full: bool = False
) -> BenchmarkReport:
    """Time the views, print the figures, and write them to a file.

    Raises:
        ConfigError: A setting is unknown or has a wrong value, or the file cannot be written.
    """
    config = read_config(ViewsBenchmarkConfig, words, is_full)
    report = measure(config, step_printer(console))
    console.print(_table(config, report.figures["networks"]))
    return finish(report, config.out, console)


def measure(config: ViewsBenchmarkConfig, begin: Begin) -> BenchmarkReport:
    """Time each way of looking at an image with each network.

    Raises:
        UnknownNameError: torchvision has no classifier of such a name.
    """
    import torch
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    for name in config.architectures:
        if name not in known:
            raise UnknownNameError.of("network of torchvision", name, known)
    torch.set_num_threads(config.threads)
    with torch.inference_mode():
        networks = {name: _measure_network(config, name, begin) for name in config.architectures}
    bars = tuple(
        Bar(
            f"{name}: dense, times as fast as crops at its positions",
            network["speedup_over_crops"],
            ">=",
            SPEED_BAR,
        )
        for name, network in networks.items()
    )
    return BenchmarkReport(config.model_dump(mode="json"), bars, {"networks": networks})


def _measure_network(config: ViewsBenchmarkConfig, name: str, begin: Begin) -> dict[str, Any]:
    import torch
    import torchvision

    from ensemble.inference.dense import to_dense

    begin(f"{name}: making the network")
    torch.manual_seed(0)
    network = torchvision.models.get_model(name, weights=None).eval()
    dense = to_dense(network, config.input_size)
    side, size = config.short_side, config.input_size
    image = torch.rand(1, 3, side, side)
    starts = range(0, side - size + 1, config.stride)
    crops = torch.cat([image[..., y : y + size, x : x + size] for y in starts for x in starts])
    ten = torch.cat(torchvision.transforms.functional.ten_crop(image, [size, size]))
    ways: dict[str, tuple[int, Callable[[], object]]] = {
        "dense": (1, lambda: dense(image)),
        "crops at its positions": (len(crops), lambda: network(crops)),
        "ten_crop": (len(ten), lambda: network(ten)),
    }
    a_crop = _gflops(lambda: network(crops[:1]))
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for repeat in range(config.repeats + 1):
        for way, (_, once) in ways.items():
            begin(f"{name}, {_round(repeat, config.repeats)}: {way}")
            started = time.perf_counter()
            once()
            if repeat:  # the first is to warm up
                seconds[way].append(time.perf_counter() - started)
    rows = {
        way: {
            "passes": passes,
            "gflops": _gflops(once) if way == "dense" else passes * a_crop,
            "seconds": seconds[way],
            "images_per_s": 1 / statistics.median(seconds[way]),
        }
        for way, (passes, once) in ways.items()
    }
    figures: dict[str, Any] = {"ways": rows}
    for key, way in _COMPARED.items():
        ratios = [slow / fast for slow, fast in zip(seconds[way], seconds["dense"], strict=True)]
        figures[f"speedup_over_{key}"] = statistics.median(ratios)
        figures[f"speedups_over_{key}"] = ratios
    return figures


def _round(repeat: int, repeats: int) -> str:
    return f"round {repeat} of {repeats}" if repeat else "warm-up"


def _gflops(once: Callable[[], object]) -> float:
    """Multiplications and additions, each counted; 2 x the multiply-adds that papers give."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counted:
        once()
    return counted.get_total_flops() / 1e9


def _table(config: ViewsBenchmarkConfig, networks: dict[str, dict[str, Any]]) -> Table:
    table = Table(
        title=f"One image of {config.short_side} x {config.short_side}, medians of {config.repeats}",
        title_justify="left",
    )
    for column in ("network", "views", "passes", "GFLOP", "images/s", "dense is faster"):
        table.add_column(column, justify="left" if column in ("network", "views") else "right")
    for name, network in networks.items():
        for way, row in network["ways"].items():
            key = next((key for key, compared in _COMPARED.items() if compared == way), None)
            ratios = network[f"speedups_over_{key}"] if key else []
            ratio = (
                f"{statistics.median(ratios):.1f} x ({min(ratios):.1f} to {max(ratios):.1f})"
                if ratios
                else ""
            )
            table.add_row(
                name,
                way,
                str(row["passes"]),
                f"{row['gflops']:.1f}",
                f"{row['images_per_s']:.2f}",
                ratio,
            )
    return table
