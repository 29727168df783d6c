"""`ensemble benchmark bulk`: `ensemble predict` against the bare predictor, and the memory of its driver."""

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import PositiveFloat, PositiveInt
from rich.console import Console

from ensemble import predictor
from ensemble.images.decode import decode
from ensemble.images.shard import ImageShard
from ensemble.inference.kept_memory import keep_freed_memory
from jobs.benchmark.bulk_driver import BulkRun, run_bulk
from jobs.benchmark.process_cpu import torch_threads
from jobs.benchmark.report import (
    Bar,
    Begin,
    BenchmarkConfig,
    BenchmarkReport,
    finish,
    read_config,
    step_printer,
)
from jobs.benchmark.serve_material import make_artifact, write_photograph

SPEED_BAR, MEMORY_BAR_MB = 0.95, 1000.0
_BARE_S = 4.0


class BulkBenchmarkConfig(BenchmarkConfig):
    """How long images are answered, and how many are listed."""

    full_size: ClassVar = {"seconds": 60.0, "listed": 1_000_000, "repeats": 3}

    seconds: PositiveFloat = 15.0
    """Seconds of the steady state in a round, by the speed of the bare predictor."""
    shard_images: PositiveInt = 128
    """Images of a part."""
    listed: PositiveInt = 10_000
    """Images of 16 x 16 pixels in a list, which a small network answers while the driver's memory is watched; a
    million take a quarter of an hour."""
    repeats: PositiveInt = 2
    """Rounds, with the bare predictor before and after each; medians are reported."""
    out: Path = Path("bulk-benchmark.json")
    """JSON file that the bars and figures are written to."""


def benchmark_bulk(
    words: Sequence[str], console: Console, is_full: bool = False
) -> BenchmarkReport:
    """Time `ensemble predict`, watch its memory, print the figures, and write them to a file.

    Raises:
        ConfigError: A setting is unknown or has a wrong value, or the file cannot be written.
    """
    config = read_config(BulkBenchmarkConfig, words, is_full)
    begin = step_printer(console)
    with tempfile.TemporaryDirectory(prefix="ens-bench-") as name:
        bare, runs = _measure_speed(config, Path(name), begin)
        listed = _measure_list(config, Path(name), begin)
    ratios = [
        run.images_per_s / statistics.fmean(around)
        for run, around in zip(runs, pairwise(bare), strict=True)
    ]
    ratio, peak_mb = statistics.median(ratios), listed.peak_bytes / 1e6
    figures: dict[str, Any] = {
        "bare_images_per_s": bare,
        "predict": [asdict(run) for run in runs],
        "ratios": ratios,
        "list": asdict(listed),
    }
    console.print(
        f"ensemble predict: {statistics.median(run.images_per_s for run in runs):.1f} images/s over "
        f"{min(run.steady_s for run in runs):.0f} s or more, the bare predictor {statistics.median(bare):.1f}, ratio "
        f"{ratio:.3f} ({min(ratios):.3f} to {max(ratios):.3f}, n = {len(ratios)}); memory of the driver for "
        f"{listed.images:,} images {peak_mb:.0f} MB, of which {listed.before_bytes / 1e6:.0f} before the first"
    )
    bars = (
        Bar("images/s of ensemble predict, x the bare predictor", ratio, ">=", SPEED_BAR),
        Bar(f"memory of the driver for {listed.images:,} images, MB", peak_mb, "<=", MEMORY_BAR_MB),
    )
    return finish(
        BenchmarkReport(config.model_dump(mode="json"), bars, figures), config.out, console
    )


def _measure_speed(
    config: BulkBenchmarkConfig, folder: Path, begin: Begin
) -> tuple[list[float], list[BulkRun]]:
    begin("making an artifact of untrained networks")
    place = make_artifact(folder / "artifact")
    image = folder / "photograph.jpg"
    write_photograph(image)
    keep_freed_memory()  # as a worker does
    pixels = decode(image, 1 << 30)
    with torch_threads(1):
        ids = [str(number) for number in range(config.shard_images)]
        shard, loaded = ImageShard.pack(ids, [pixels] * len(ids)), predictor.load(place)
        begin("the bare predictor")
        bare = [_bare(loaded, shard) for _ in range(2)][1:]  # the first one warms up
        # One part more, up to which the pipeline fills.
        parts = 2 + int(config.seconds * bare[0] / config.shard_images)
        images = folder / "images"
        images.mkdir()
        for number in range(parts * config.shard_images):
            os.link(image, images / f"{number:07d}.jpg")
        runs = []
        for number in range(1, config.repeats + 1):
            begin(
                f"round {number} of {config.repeats}: {parts * config.shard_images:,} photographs"
            )
            out = folder / f"out{number}"
            runs.append(run_bulk(str(place), images, out, _words(config.shard_images)))
            begin(f"round {number} of {config.repeats}: the bare predictor")
            bare.append(_bare(loaded, shard))
    return bare, runs


def _bare(loaded: predictor.Predictor, shard: ImageShard) -> float:
    """Give the images a second of the bare predictor, on images that are decoded."""
    began, images = time.perf_counter(), 0
    while time.perf_counter() - began < _BARE_S:
        loaded.predict_shard(shard)
        images += len(shard)
    return images / (time.perf_counter() - began)


def _measure_list(config: BulkBenchmarkConfig, folder: Path, begin: Begin) -> BulkRun:
    from PIL import Image

    begin(f"a list of {config.listed:,} images")
    place = make_artifact(folder / "small", ("alexnet_small",), 32)
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "tiny.png")
    lines = folder / "list.txt"
    with lines.open("w") as file:
        # One file under so many names as there are images.
        file.writelines(f"./{'./' * (number % 7)}tiny.png\n" for number in range(config.listed))
    return run_bulk(str(place), lines, folder / "listed", _words(2000))


def _words(shard_images: int) -> list[str]:
    sizes = ("cluster.hosts=1", f"cluster.shard_images={shard_images}")
    return ["cluster.device=cpu", *sizes, "top_k=1"]
