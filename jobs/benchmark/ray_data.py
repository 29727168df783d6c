"""This system against Ray Data, a pipeline a member, on the same JPEGs: CPU seconds, wall, and the rows."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cluster.pool.pool import open_pool
from cluster.pool.synthetic_host import SyntheticHost
from cluster.ray_data_baseline import predict_all_with_ray_data
from cluster.settings import ClusterConfig
from ensemble.images.open import open_source
from ensemble.images.settings import FolderConfig
from ensemble.images.shard import plan_shards
from ensemble.inference.costs import CostCache
from ensemble.members.member import Member
from jobs.benchmark.process_cpu import cpu_seconds
from jobs.benchmark.report import Begin
from jobs.benchmark.synthetic_members import COSTS_MS, synthetic_member

_Rows = dict[str, dict[str, np.ndarray]]


@dataclass
class Spent:
    """Wall and CPU seconds that some work took."""

    wall_s: float = 0.0
    cpu_s: float = 0.0


def compare(num_images: int, pixels: int, seed: int, folder: Path, begin: Begin) -> dict[str, Any]:
    """Predict the same JPEGs with this system and with Ray Data.

    The 13 members cost next to nothing, so that all else is compared.

    Args:
        num_images: Number of JPEGs.
        pixels: Side of a JPEG.
        seed: Seed of their content.
        folder: Folder that they are written to.
        begin: Prints the name of each step.

    Raises:
        ClusterError: Ray does not start.
    """
    images = folder / "images"
    begin(f"baseline: writing {num_images} JPEGs")
    _write_images(images / "only", num_images, pixels, seed)
    members = [synthetic_member(number, 1) for number in range(len(COSTS_MS))]
    settings = ClusterConfig(device="cpu", hosts=2, object_store_mb=512)
    ours, theirs = Spent(), Spent()
    begin("baseline: this system")
    rows = _ours(settings, images, members, folder, ours)
    begin(f"baseline: Ray Data, a pipeline for each of {len(members)} members")
    their_rows = predict_all_with_ray_data(settings, images, members, _clock(theirs))
    return {
        "ours": vars(ours),
        "ray_data": vars(theirs),
        "cpu_ratio": ours.cpu_s / theirs.cpu_s,
        "same_rows": _are_same(rows, their_rows),
    }


def _ours(
    settings: ClusterConfig, images: Path, members: list[Member], folder: Path, spent: Spent
) -> _Rows:
    source = FolderConfig(path=str(images))
    ids = open_source(source).index().image_ids.tolist()
    rows: _Rows = {member.name: {} for member in members}
    cache = CostCache(folder / "figures-baseline")
    with open_pool(settings, source, cache, SyntheticHost) as pool, _clock(spent):
        work = [(spec, members) for spec in plan_shards(ids, settings.shard_images)]
        for member, block in pool.predict(work):
            names = [Path(str(image_id)).name for image_id in block.image_ids]
            rows[member.name] |= dict(zip(names, block.log_probabilities, strict=True))
    return rows


def _are_same(ours: _Rows, theirs: _Rows) -> bool:
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


def _write_images(folder: Path, num_images: int, side: int, seed: int) -> None:
    """Write JPEGs that take as long to decode as photographs: smooth shapes and some noise."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(num_images):
        small = rng.integers(0, 256, (8, 8, 3), np.uint8)
        smooth = np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC))
        noisy = smooth + rng.normal(0, 8, smooth.shape)
        pixels = noisy.clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:05d}.jpg", quality=90)
