"""An epoch over photographs against decoding alone, in a process of its own whose memory is watched. Linux only."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from ensemble.images.open import Source, decode_for, open_source
from ensemble.images.settings import FolderConfig
from ensemble.training.augmentation_settings import RandomResizedCropConfig
from ensemble.training.data import kept_form, open_data
from ensemble.training.loop import fit, train
from ensemble.training.optimizer_settings import SgdConfig
from ensemble.training.recipe import RecipeConfig
from ensemble.training.schedule_settings import ConstantConfig
from ensemble.training.task import Reading, TrainTask
from jobs.benchmark.process_memory import peak_bytes, resident_bytes

_CLASSES, _DISTINCT, _QUALITY, _BLOCK = 4, 32, 90, 25
# Photographs that are decoded alone, before the epoch and after it.
_DECODED = 512
_DISK_MB = 100_000


@dataclass(frozen=True)
class PhotographEpoch:
    """An epoch of a tiny network over photographs, from their files on, and a second one over what was kept.

    Attributes:
        num_images: Number of photographs.
        cpu_s: CPU seconds of the first epoch, with the decoding.
        wall_s: Seconds of it.
        later_cpu_s: CPU seconds of the second epoch.
        decode_cpu_s: CPU seconds in which one photograph is decoded and nothing else, before and after both.
        resize_cpu_s: CPU seconds in which one is decoded as far as is needed and resized to what is kept.
        before_bytes: Resident memory before it, when all libraries were loaded.
        peak_bytes: Peak of the resident memory.
    """

    num_images: int
    cpu_s: float
    wall_s: float
    later_cpu_s: float
    decode_cpu_s: tuple[float, ...]
    resize_cpu_s: tuple[float, ...]
    before_bytes: int
    peak_bytes: int

    @property
    def ratio(self) -> float:
        """Images per second of the epoch, as a share of those that are only decoded."""
        return statistics.fmean(self.decode_cpu_s) * self.num_images / self.cpu_s

    @property
    def resized_ratio(self) -> float:
        """Images per second of the epoch, as a share of those that are only decoded and resized."""
        return statistics.fmean(self.resize_cpu_s) * self.num_images / self.cpu_s

    @property
    def later_ratio(self) -> float:
        """Images per second of a later epoch, as a multiple of those that are only decoded."""
        return statistics.fmean(self.decode_cpu_s) * self.num_images / self.later_cpu_s

    @property
    def memory_gb(self) -> float:
        """Memory that the epoch took beside what was resident before it, in GB."""
        return (self.peak_bytes - self.before_bytes) / 1e9

    def figures(self) -> dict[str, Any]:
        """Give all figures as plain values."""
        return asdict(self) | {
            "images_per_cpu_s": self.num_images / self.cpu_s,
            "decoded_per_cpu_s": 1 / statistics.fmean(self.decode_cpu_s),
            "images_per_s": self.num_images / self.wall_s,
            "ratio": self.ratio,
            "resized_ratio": self.resized_ratio,
            "later_ratio": self.later_ratio,
            "memory_gb": self.memory_gb,
        }


def make_photographs(folder: Path, count: int, sides: tuple[int, int], seed: int) -> None:
    """Write JPEGs of coarse shapes under noise, in a sub-folder by class; few are distinct, the others are links.

    Args:
        folder: Folder that they are written to.
        count: Number of photographs.
        sides: Width and height of each, in pixels.
        seed: Seed of shapes and noise.
    """
    rng, (width, height) = np.random.default_rng(seed), sides
    paths = [folder / str(row % _CLASSES) / f"{row:06d}.jpg" for row in range(count)]
    for number in range(_CLASSES):
        (folder / str(number)).mkdir()
    for row, path in enumerate(paths):
        if row >= _DISTINCT:
            os.link(paths[row % _DISTINCT], path)
            continue
        blocks = (max(1, height // _BLOCK), max(1, width // _BLOCK), 3)
        shapes = Image.fromarray(rng.integers(0, 256, blocks, np.uint8))
        smooth = np.asarray(shapes.resize(sides, Image.Resampling.BICUBIC)).astype(np.int16)
        noisy = smooth + rng.integers(-12, 13, smooth.shape, np.int16)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=_QUALITY)


def measure_photographs(
    folder: Path, input_size: int, batch_size: int, threads: int
) -> PhotographEpoch:
    """Train on a folder of photographs in a fresh process, and measure CPU seconds and peak memory.

    Args:
        folder: Folder with a sub-folder by class.
        input_size: Side of the input that is cut out of them, in pixels.
        batch_size: Number of images in a step.
        threads: Threads that decode and compute.
    """
    words = [sys.executable, "-m", "jobs.benchmark.photographs", str(folder)]
    sizes = [str(number) for number in (input_size, batch_size, threads)]
    done = subprocess.run([*words, *sizes], stdout=subprocess.PIPE, text=True, check=True)
    return PhotographEpoch(**json.loads(done.stdout))


def _measure(folder: Path, input_size: int, batch_size: int, threads: int) -> PhotographEpoch:
    torch.set_num_threads(threads)
    config = FolderConfig(path=str(folder))
    source = open_source(config)
    index = source.index()
    recipe = RecipeConfig(
        input_size=input_size,
        epochs=2,
        batch_size=batch_size,
        optimizer=SgdConfig(lr=1e-3),
        schedule=ConstantConfig(),
        augmentation=None,
        crop=RandomResizedCropConfig(),
    )
    classes, device = tuple(range(len(index.classes))), torch.device("cpu")
    sample = index.image_ids[:: max(1, len(index) // _DECODED)][:_DECODED].tolist()
    _load_libraries(recipe)
    with tempfile.TemporaryDirectory(prefix="ens-bench-") as kept:
        reading = Reading(config, _DISK_MB)
        task = TrainTask(
            "tiny", "resnet14_small", recipe, 0, index, classes, Path(kept), reading=reading
        )
        decode, resize = partial(_decode, source, sample), partial(_resize, source, sample, task)
        decode()
        decode_s, resize_s, before = [decode()], [resize()], resident_bytes()
        clock = [(time.process_time(), time.perf_counter())]
        data = open_data(task, (), device)
        channels = (data.preprocessing.mean, data.preprocessing.std)
        network = _tiny_network(input_size)
        fit(
            network,
            data.batches,
            data.label_range,
            recipe,
            channels,
            seed=0,
            on_epoch=lambda _: clock.append((time.process_time(), time.perf_counter())),
        )
        peak = peak_bytes()
    decode_s.append(decode())
    resize_s.append(resize())
    (began, began_wall), (first, first_wall), (second, _) = clock
    return PhotographEpoch(
        len(index),
        first - began,
        first_wall - began_wall,
        second - first,
        tuple(decode_s),
        tuple(resize_s),
        before,
        peak,
    )


def _load_libraries(recipe: RecipeConfig) -> None:
    """Train a network on noise: torch loads parts of itself at the first step."""
    size = recipe.input_size
    images, labels = torch.rand(2, 3, size, size), torch.tensor([0, 1])
    train(_tiny_network(size), images, labels, recipe, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), seed=0)


def _tiny_network(input_size: int) -> nn.Module:
    # Not one of those that have a name: it is tinier than any of them, and no larger at a larger input.
    return nn.Sequential(
        nn.Conv2d(3, 8, 8, stride=max(8, input_size // 8)),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, _CLASSES),
    )


def _decode(source: Source, image_ids: Sequence[str]) -> float:
    began = time.process_time()
    for image_id in image_ids:
        source.decode(image_id)
    return (time.process_time() - began) / len(image_ids)


def _resize(source: Source, image_ids: Sequence[str], task: TrainTask) -> float:
    form = kept_form(task, None)
    began = time.process_time()
    for shard in decode_for(source, image_ids, form.short_side):
        for image in shard.images():
            form.resize(image)
    return (time.process_time() - began) / len(image_ids)


if __name__ == "__main__":
    folder, *numbers = sys.argv[1:]
    print(json.dumps(asdict(_measure(Path(folder), *(int(number) for number in numbers)))))
