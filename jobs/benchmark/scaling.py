"""`ensemble benchmark scaling`: plans against a virtual clock, against this machine, and against Ray Data."""

import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import Field, NonNegativeInt, PositiveInt
from rich.console import Console
from rich.table import Table

from cluster.packing import lower_bound, plan
from cluster.placement import Device, Plan, Work
from cluster.pool import open_pool
from cluster.queue import Call
from cluster.rehearsal import RehearsalHost
from cluster.rival import predict_all_with_ray_data
from cluster.settings import ClusterConfig
from cluster.virtual import simulate
from ensemble.config import Config, check
from ensemble.figures import FigureCache
from ensemble.images.settings import DigitsConfig, FolderConfig
from ensemble.images.shard import plan_shards
from ensemble.images.sources import open_source
from ensemble.members import Member, Preprocessing
from ensemble.view_settings import CenterView
from jobs.benchmark.cpu import cpu_seconds
from jobs.run_folder import write
from jobs.search_settings import read_settings

# What 13 members cost an image, in ms: from small to large, as pools are.
COSTS_MS = (0.4, 0.6, 0.9, 1.1, 1.5, 1.8, 2.0, 2.6, 3.5, 4.1, 5.0, 7.5, 11.0)
ROUNDS_PER_MS = 25
_SHARD_BYTES = 128 * 224 * 224 * 3


class ScalingBenchmarkConfig(Config):
    """What is scheduled, and on how many hosts."""

    hosts: tuple[PositiveInt, ...] = (1, 2, 4)
    """Hosts of the virtual clock."""
    real_hosts: tuple[PositiveInt, ...] = Field((1, 2))
    """Host processes on this machine; no more than it has idle cores."""
    shards: PositiveInt = 200
    """Of 128 images, on the virtual clock."""
    images: PositiveInt = 1500
    """Digits that the real hosts predict."""
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


@dataclass
class Spent:
    """Wall and CPU seconds."""

    wall_s: float = 0.0
    cpu_s: float = 0.0


def benchmark_scaling(words: Sequence[str], console: Console) -> dict[str, Any]:
    """Measure, print, and write the figures to a file.

    Raises:
        ConfigError: A setting is wrong, or Ray Data is not there.
    """
    config = check(ScalingBenchmarkConfig, read_settings(words), "the command")
    folder = Path(tempfile.mkdtemp(prefix="ens-bench-"))
    try:
        virtual = [_virtual(config, count) for count in config.hosts]
        real = [_real(config, count, folder) for count in config.real_hosts]
        rival = _rival(config, folder) if config.rival else None
    finally:
        shutil.rmtree(folder)
    document: dict[str, Any] = {
        "schema_version": 1,
        "settings": config.model_dump(mode="json"),
        "machine": {"platform": platform.platform(), "cores": os.cpu_count()},
        "virtual": virtual,
        "real": real,
        "rival": rival,
    }
    console.print(_schedules("On a virtual clock", virtual))
    console.print(_schedules(f"On this machine, {os.cpu_count()} cores", real))
    if rival:
        console.print(
            f"{len(COSTS_MS)} members on {config.rival_images} JPEGs: {rival['ours']['cpu_s']:.1f} "
            f"CPU-s and {rival['ours']['wall_s']:.1f} s; Ray Data, a pipeline a member: "
            f"{rival['ray_data']['cpu_s']:.1f} CPU-s and {rival['ray_data']['wall_s']:.1f} s; "
            f"ratio of CPU-s {rival['cpu_ratio']:.3f} (bar: <= 0.25), same rows: "
            f"{rival['same_rows']}",
            soft_wrap=True,
            highlight=False,
        )
    write(config.out, json.dumps(document, indent=2) + "\n")
    return document


def made_up_member(number: int, rounds: int) -> Member:
    """A member of fixed cost."""
    return Member(
        name=f"m{number}",
        architecture="rehearsal",
        classes=tuple(range(10)),
        checkpoint=Path("none"),
        weights_sha256=f"{number:064x}",
        head="none",
        parameters=rounds,
        preprocessing=Preprocessing(size=8, mean=(0, 0, 0), std=(1, 1, 1)),
        views=CenterView(),
        data_sha256="made-up",
    )


def _virtual(config: ScalingBenchmarkConfig, num_hosts: int) -> dict[str, float]:
    specs = plan_shards([str(number) for number in range(128 * config.shards)], 128)
    members = [made_up_member(number, 1) for number in range(len(COSTS_MS))]
    block_s = {m.name: {"cpu": 0.128 * cost} for m, cost in zip(members, COSTS_MS, strict=True)}
    works = [
        Work(name, {"cpu": len(specs) * of["cpu"]}, blocks=len(specs))
        for name, of in block_s.items()
    ]
    pairs = [(member, spec) for spec in specs for member in members]
    calls = [Call("predict", m, (spec,), order) for order, (m, spec) in enumerate(pairs)]
    devices = [Device()] * num_hosts
    found = plan(works, devices)
    seconds = simulate(found, calls, block_s, _SHARD_BYTES, ClusterConfig().shard_window_mb)
    return _row(num_hosts, found.seconds, lower_bound(works, devices), seconds)


def _real(config: ScalingBenchmarkConfig, num_hosts: int, folder: Path) -> dict[str, float]:
    ids = open_source(DigitsConfig()).index().image_ids[: config.images].tolist()
    members = [made_up_member(n, int(cost * ROUNDS_PER_MS)) for n, cost in enumerate(COSTS_MS)]
    settings = ClusterConfig(device="cpu", hosts=num_hosts, shard_images=64, object_store_mb=128)
    cache = FigureCache(folder / f"figures-{num_hosts}")
    begun: list[tuple[float, Plan]] = []
    work = [(spec, members) for spec in plan_shards(ids, settings.shard_images)]
    with open_pool(settings, DigitsConfig(), cache, RehearsalHost) as pool:
        for _ in pool.predict(work, lambda found: begun.append((time.perf_counter(), found))):
            pass
        ended = time.perf_counter()
    ((started, found),) = begun
    bound = sum(sum(found.loads(wave)) for wave in found.waves) / num_hosts
    return _row(num_hosts, found.seconds, bound, ended - started)


def _row(num_hosts: int, planned: float, bound: float, seconds: float) -> dict[str, float]:
    return {
        "hosts": num_hosts,
        "planned_s": planned,
        "lower_bound_s": bound,
        "seconds": seconds,
        "efficiency": bound / seconds,
        "planned_over_seconds": planned / seconds,
    }


def _rival(config: ScalingBenchmarkConfig, folder: Path) -> dict[str, Any]:
    images = folder / "images"
    _write_images(images / "only", config)
    members = [made_up_member(number, 1) for number in range(len(COSTS_MS))]
    settings = ClusterConfig(device="cpu", hosts=2, object_store_mb=512)
    ours, theirs = Spent(), Spent()
    rows = _ours(settings, images, members, folder, ours)
    their_rows = predict_all_with_ray_data(settings, images, members, _clock(theirs))
    return {
        "ours": vars(ours),
        "ray_data": vars(theirs),
        "cpu_ratio": ours.cpu_s / theirs.cpu_s,
        "same_rows": _are_same(rows, their_rows),
    }


def _ours(
    settings: ClusterConfig, images: Path, members: list[Member], folder: Path, spent: Spent
) -> dict[str, dict[str, np.ndarray]]:
    source = FolderConfig(path=str(images))
    ids = open_source(source).index().image_ids.tolist()
    rows: dict[str, dict[str, np.ndarray]] = {member.name: {} for member in members}
    cache = FigureCache(folder / "figures-rival")
    with open_pool(settings, source, cache, RehearsalHost) as pool, _clock(spent):
        work = [(spec, members) for spec in plan_shards(ids, settings.shard_images)]
        for member, block in pool.predict(work):
            names = [Path(str(image_id)).name for image_id in block.image_ids]
            rows[member.name] |= dict(zip(names, block.log_probabilities, strict=True))
    return rows


def _are_same(
    ours: dict[str, dict[str, np.ndarray]], theirs: dict[str, dict[str, np.ndarray]]
) -> bool:
    return ours.keys() == theirs.keys() and all(
        ours[name].keys() == theirs[name].keys()
        and all(np.array_equal(row, theirs[name][key]) for key, row in ours[name].items())
        for name in ours
    )


@contextmanager
def _clock(spent: Spent) -> Iterator[None]:
    began, cpu = time.perf_counter(), cpu_seconds()
    yield
    spent.wall_s, spent.cpu_s = time.perf_counter() - began, cpu_seconds() - cpu


def _write_images(folder: Path, config: ScalingBenchmarkConfig) -> None:
    """JPEGs that take as long to decode as photographs: smooth shapes and some noise."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(config.seed)
    side = config.rival_pixels
    for number in range(config.rival_images):
        small = rng.integers(0, 256, (8, 8, 3), np.uint8)
        smooth = np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC))
        noisy = smooth + rng.normal(0, 8, smooth.shape)
        pixels = noisy.clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:05d}.jpg", quality=90)


def _schedules(title: str, rows: Sequence[dict[str, float]]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in ("hosts", "planned", "lower bound", "took", "efficiency", "planned / took"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            f"{row['hosts']:.0f}",
            f"{row['planned_s']:.1f} s",
            f"{row['lower_bound_s']:.1f} s",
            f"{row['seconds']:.1f} s",
            f"{row['efficiency']:.3f}",
            f"{row['planned_over_seconds']:.3f}",
        )
    table.caption = "bars: efficiency >= 0.9; planned within 15 % of what it took"
    return table
