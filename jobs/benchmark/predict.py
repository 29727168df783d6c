"""`ensemble benchmark predict`: a member in the running system against the bare network, and decode's cost.

Each round, the system predicts new images, which are decoded meanwhile on another core, and then the
same again from what is decoded. Images a second, from the first block to the last, need a quiet machine;
CPU seconds an image, of all that the host's process does, are much the same on a busy one.
"""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveInt
from rich.console import Console
from rich.text import Text

from cluster.pool.host import Host
from cluster.pool.pool import Pool, open_pool
from cluster.settings import ClusterConfig
from ensemble.checkpoints.load import load_member
from ensemble.images.open import decode_shard, open_source
from ensemble.images.settings import FolderConfig
from ensemble.images.shard import ImageShard, ShardSpec, plan_shards
from ensemble.inference.costs import CostCache
from ensemble.members.member import Member, in_precision
from ensemble.members.settings import Preprocessing
from ensemble.members.source_settings import Architecture
from ensemble.views.settings import CenterView
from jobs.benchmark.report import (
    Bar,
    Begin,
    BenchmarkConfig,
    BenchmarkReport,
    finish,
    read_config,
    step_printer,
)

if TYPE_CHECKING:
    import torch

    from ensemble.table.block import LogitBlock

SPEED_BARS = {"cpu": 0.95, "cuda": 0.90}
DECODE_BAR = 1.1

_CLASSES = 10
_DISTINCT = 64


class PredictBenchmarkConfig(BenchmarkConfig):
    """The member, and the synthetic photographs that it predicts."""

    full_size: ClassVar = {"shards": 7, "repeats": 5}

    architecture: Architecture = "resnet14_small"
    """Architecture of the member; its weights are random."""
    input_size: PositiveInt = 224
    """Side of the member's input, in pixels."""
    members: PositiveInt = 13
    """Members whose decoding is counted; their inputs are 32 x 32 pixels, so that little else takes time."""
    shards: Annotated[int, Field(ge=2)] = 2
    """Shards of 64 images in a round; the first one fills the pipeline and is not timed."""
    width: PositiveInt = 500
    """Width of a photograph, in pixels."""
    height: PositiveInt = 375
    """Height of a photograph, in pixels."""
    repeats: PositiveInt = 3
    """Rounds of new images after one to warm up, with the bare network before and after each; medians are
    reported."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Device of the network: a CPU in float32, or a GPU in bfloat16 with channels last."""
    out: Path = Path("predict-benchmark.json")
    """JSON file that the bars and figures are written to."""


def benchmark_predict(
    words: Sequence[str], console: Console, is_full: bool = False
) -> BenchmarkReport:
    """Time a member in the running system, print the figures, and write them to a file.

    Raises:
        ConfigError: A setting is unknown or has a wrong value, or the file cannot be written.
        ClusterError: Ray does not start, or there is no such device.
    """
    config = read_config(PredictBenchmarkConfig, words, is_full)
    report = measure(config, step_printer(console))
    console.print(Text(_describe(report.figures, config.members)), soft_wrap=True)
    return finish(report, config.out, console)


def measure(config: PredictBenchmarkConfig, begin: Begin) -> BenchmarkReport:
    """Time a member in the running system and as a bare network, and count what is decoded.

    Raises:
        ClusterError: Ray does not start, or there is no such device.
    """
    with tempfile.TemporaryDirectory(prefix="ens-bench-") as name:
        figures = _measure_in(config, Path(name), begin)
    bar = SPEED_BARS[config.device]
    decoded = f"images decoded for {config.members} members, x those for one"
    bars = (
        Bar(
            "images/s of the system, decoding beside it, x bare network",
            figures["system"]["speed_ratio"],
            ">=",
            bar,
        ),
        Bar(
            "images/s of the system, from decoded images, x bare network",
            figures["system_from_decoded"]["speed_ratio"],
            ">=",
            bar,
        ),
        Bar(decoded, figures["decode_ratio"], "<=", DECODE_BAR),
    )
    return BenchmarkReport(config.model_dump(mode="json"), bars, figures)


def _describe(figures: Mapping[str, Any], members: int) -> str:
    lines = [f"bare network: {statistics.median(figures['bare_images_per_s']):.2f} images/s"]
    for key, what in (
        ("system", "system, decoding beside it"),
        ("system_from_decoded", "system, from decoded images"),
    ):
        row = figures[key]
        ratios = row["speed_ratios"]
        lines.append(
            f"{what}: {statistics.median(row['images_per_s']):.2f} images/s, ratio "
            f"{row['speed_ratio']:.3f} ({min(ratios):.3f} to {max(ratios):.3f}, n = {len(ratios)}), by CPU "
            f"seconds {row['cpu_ratio']:.3f}"
        )
    lines.append(
        f"images decoded for {members} members / for one: {figures['decode_ratio']:.2f}, "
        f"{1e3 * figures['decode_cpu_seconds_per_image']:.1f} ms of a CPU an image"
    )
    return "\n".join(lines)


class _Clocked(Host):
    """A host that gives the CPU seconds of its process so far in place of those of a block."""

    def predict(
        self, member: Member, largest_batch: int | None, shard: ImageShard
    ) -> tuple["LogitBlock", int | None]:
        block, largest_batch = super().predict(member, largest_batch, shard)
        return replace(block, seconds=time.process_time()), largest_batch


@dataclass(frozen=True)
class _Rate:
    images_per_s: float
    cpu_seconds_per_image: float


def _measure_in(config: PredictBenchmarkConfig, folder: Path, begin: Begin) -> dict[str, Any]:
    from ensemble.inference.predict import BATCH_IMAGES

    rounds = config.repeats + 1  # one to warm up
    begin("making photographs")
    # Two more for the count of decodings; every round has images of its own, not decoded before.
    _make_photographs(config, folder / "images", (rounds + 2) * config.shards * BATCH_IMAGES)
    source = FolderConfig(path=str(folder / "images"))
    ids = open_source(source).index().image_ids.tolist()
    specs = plan_shards(ids, BATCH_IMAGES)
    parts = [specs[i : i + config.shards] for i in range(0, len(specs), config.shards)]
    is_on_gpu = config.device == "cuda"
    member = _make_member(config, folder / "one.safetensors", config.input_size)
    member = in_precision(member, "bfloat16" if is_on_gpu else "float32")
    small = _make_member(config, folder / "small.safetensors", 32)
    many = [replace(small, name=f"m{number}") for number in range(config.members)]
    network, batch = _bare(member, config.device)
    cluster = ClusterConfig(
        device=config.device, hosts=1, shard_images=BATCH_IMAGES, channels_last=is_on_gpu
    )
    system, again, bare = [], [], []
    begin("starting Ray")
    with open_pool(cluster, source, CostCache(folder / "figures"), _Clocked) as pool:
        for number in range(rounds):
            round_name = f"round {number} of {config.repeats}" if number else "warm-up"
            begin(f"{round_name}: system, decoding beside it")
            system.append(_predict(pool, member, parts[number]))
            begin(f"{round_name}: system, from decoded images")
            again.append(_predict(pool, member, parts[number]))
            begin(f"{round_name}: bare network")
            bare.append(_loop(network, batch, config.shards - 1))
        begin(f"counting what is decoded for one member and for {config.members}")
        decoded = [_decoded(pool, parts[-2], many[:1]), _decoded(pool, parts[-1], many)]
    started = time.process_time()
    decode_shard(open_source(source), specs[0])
    return {
        "system": _compare(system[1:], bare),
        "system_from_decoded": _compare(again[1:], bare),
        "bare_images_per_s": [rate.images_per_s for rate in bare],
        "decoded_images": {"for_one": decoded[0], "for_all": decoded[1]},
        "decode_ratio": decoded[1] / decoded[0],
        "decode_cpu_seconds_per_image": (time.process_time() - started) / BATCH_IMAGES,
    }


def _compare(system: Sequence[_Rate], bare: Sequence[_Rate]) -> dict[str, Any]:
    """Compare each round of the system with the mean of the bare network before it and after it."""
    around = list(zip(system, bare, bare[1:], strict=False))
    speed = [
        s.images_per_s / statistics.fmean([a.images_per_s, b.images_per_s]) for s, a, b in around
    ]
    cpu = [
        statistics.fmean([a.cpu_seconds_per_image, b.cpu_seconds_per_image])
        / s.cpu_seconds_per_image
        for s, a, b in around
    ]
    return {
        "images_per_s": [rate.images_per_s for rate in system],
        "speed_ratios": speed,
        "speed_ratio": statistics.median(speed),
        "cpu_ratios": cpu,
        "cpu_ratio": statistics.median(cpu),
    }


def _predict(pool: Pool, member: Member, specs: Sequence[ShardSpec]) -> _Rate:
    """Predict shards with one member, timed from the first block to the last."""
    arrived, seconds, images = [], [], 0
    for _, block in pool.predict([(spec, [member]) for spec in specs]):
        arrived.append(time.perf_counter())
        seconds.append(block.seconds)
        images += len(block.image_ids)
    timed = images - images // len(specs)
    return _Rate(timed / (arrived[-1] - arrived[0]), (max(seconds) - min(seconds)) / timed)


def _decoded(pool: Pool, specs: Sequence[ShardSpec], members: Sequence[Member]) -> int:
    """Count the images that were decoded for some members to predict some shards."""
    before = pool.decoded_images
    for _ in pool.predict([(spec, members) for spec in specs]):
        pass
    return pool.decoded_images - before


def _bare(member: Member, device: str) -> tuple["torch.nn.Module", "torch.Tensor"]:
    import torch

    from ensemble.checkpoints.load import load_network
    from ensemble.inference.predict import BATCH_IMAGES

    torch.set_num_threads(1)  # as a host has
    size = member.preprocessing.size
    network = load_network(member).to(device)
    batch = torch.rand(BATCH_IMAGES, 3, size, size).to(device)
    if device == "cuda":
        network = network.to(torch.bfloat16).to(memory_format=torch.channels_last)
        batch = batch.to(torch.bfloat16, memory_format=torch.channels_last)
    return network, batch


def _loop(network: "torch.nn.Module", batch: "torch.Tensor", batches: int) -> _Rate:
    """Time `network(batch)`, and nothing else."""
    import torch

    with torch.inference_mode():
        started, cpu = time.perf_counter(), time.thread_time()
        for _ in range(batches):
            # Reading a number waits for a GPU, as fetching a block does.
            network(batch)[0, 0].item()
        images = batches * len(batch)
        return _Rate(images / (time.perf_counter() - started), (time.thread_time() - cpu) / images)


def _make_member(config: PredictBenchmarkConfig, path: Path, size: int) -> Member:
    from ensemble.checkpoints import file as checkpoint
    from ensemble.models import registry as models
    from ensemble.models.heads import find_head

    network = models.build(config.architecture, _CLASSES)
    to = Preprocessing(
        size=size, resize=round(size * 256 / 224), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)
    )
    metadata = {
        "architecture": config.architecture,
        "classes": json.dumps(list(range(_CLASSES))),
        "head": find_head(network, _CLASSES),
        "parameters": str(sum(p.numel() for p in network.parameters())),
        "preprocessing": to.model_dump_json(),
    }
    checkpoint.save(network, path, metadata)
    return load_member("one", path, CenterView(), "0" * 64)


def _make_photographs(config: PredictBenchmarkConfig, folder: Path, count: int) -> None:
    """Write JPEGs of smooth noise, which take as long to decode as photographs, in two classes."""
    from PIL import Image

    rng = np.random.default_rng(0)
    distinct: list[Path] = []
    for number in range(count):
        path = folder / f"class{number % 2}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number >= _DISTINCT:
            os.link(distinct[number % _DISTINCT], path)  # a link is decoded as any other file
            continue
        coarse = rng.integers(0, 256, (config.height // 8, config.width // 8, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize(
            (config.width, config.height), Image.Resampling.BICUBIC
        )
        image.save(path, quality=90)
        distinct.append(path)
