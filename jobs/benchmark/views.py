"""`ensemble benchmark views`: dense evaluation against explicit crops at the same positions, and ten_crop."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveInt
from rich.console import Console
from rich.table import Table

from ensemble.config import Config, check
from ensemble.files import write_atomic
from jobs.search_settings import read_settings

# What dense must gain over the crops at its positions.
SPEED_BAR = 5.0

_COMPARED = {"crops": "crops at its positions", "ten_crop": "ten_crop"}


class ViewsBenchmarkConfig(Config):
    """Which networks, at which size."""

    architectures: Annotated[tuple[str, ...], Field(min_length=1)] = ("resnet50", "vgg16")
    """Of torchvision, with random weights: a figure of time needs no others."""
    short_side: Annotated[int, Field(ge=224)] = 384
    """Of the square image that is evaluated, in pixels."""
    input_size: PositiveInt = 224
    """Side of the networks' training input, in pixels."""
    stride: PositiveInt = 32
    """Pixels between neighbouring positions: the stride of the whole network."""
    threads: PositiveInt = 1
    """Of torch."""
    repeats: PositiveInt = 3
    """Rounds, after one pass of each way to warm up; all ways are measured in turn in each of them, and
    medians are reported."""
    out: Path = Path("views-benchmark.json")
    """Where the figures go."""


def benchmark_views(words: Sequence[str], console: Console) -> dict[str, Any]:
    """Measure, print, and write the figures to a file.

    Raises:
        ConfigError: A setting is wrong.
    """
    config = check(ViewsBenchmarkConfig, read_settings(words), "the command")
    import torch

    torch.set_num_threads(config.threads)
    with torch.inference_mode():
        networks = {name: _measure(config, name) for name in config.architectures}
    document: dict[str, Any] = {
        "schema_version": 1,
        "settings": config.model_dump(mode="json"),
        "machine": {
            "platform": platform.platform(),
            "cores": os.cpu_count(),
            "torch": version("torch"),
        },
        "networks": networks,
        "bar": SPEED_BAR,
        "is_met": all(found["speedup_over_crops"] >= SPEED_BAR for found in networks.values()),
    }
    console.print(_table(config, networks))
    write_atomic(config.out, json.dumps(document, indent=2) + "\n")
    console.print(f"figures: {config.out}", soft_wrap=True, highlight=False)
    return document


def _measure(config: ViewsBenchmarkConfig, name: str) -> dict[str, Any]:
    import torch
    import torchvision

    from ensemble.inference.dense import to_dense

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
    found: dict[str, Any] = {"ways": rows}
    for key, way in _COMPARED.items():
        ratios = [slow / fast for slow, fast in zip(seconds[way], seconds["dense"], strict=True)]
        found[f"speedup_over_{key}"] = statistics.median(ratios)
        found[f"speedups_over_{key}"] = ratios
    return found


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
    for name, found in networks.items():
        for way, row in found["ways"].items():
            key = next((key for key, compared in _COMPARED.items() if compared == way), None)
            ratios = found[f"speedups_over_{key}"] if key else []
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
    met = all(found["speedup_over_crops"] >= SPEED_BAR for found in networks.values())
    table.caption = f"bar: {SPEED_BAR:g} x the crops; {'met' if met else 'NOT met'}"
    return table
