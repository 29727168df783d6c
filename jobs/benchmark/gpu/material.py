"""What the parts measure with: photographs, networks with random weights, and times that wait for the device."""

import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from ensemble.checkpoints import file as checkpoint
from ensemble.images.shard import ImageShard
from ensemble.members.member import Member
from ensemble.members.settings import Precision, Preprocessing
from ensemble.models import registry as models
from ensemble.models.heads import find_head
from ensemble.views.settings import CenterView, Views

CLASSES = 1000
_DISTINCT = 32
_SETTLE_IMAGES = 8


def make_pixels(count: int, width: int, height: int, seed: int = 0) -> list[np.ndarray]:
    """Make RGB images of smooth noise; after 32 of them they repeat.

    Args:
        count: Number of images.
        width: Width of each image, in pixels.
        height: Height of each image, in pixels.
        seed: Seed of the noise.
    """
    rng = np.random.default_rng(seed)
    coarse_size = (max(height // 8, 2), max(width // 8, 2), 3)
    distinct = [
        np.asarray(
            Image.fromarray(rng.integers(0, 256, coarse_size, dtype=np.uint8)).resize(
                (width, height), Image.Resampling.BICUBIC
            )
        )
        for _ in range(min(count, _DISTINCT))
    ]
    return [distinct[number % len(distinct)] for number in range(count)]


def make_jpegs(count: int, width: int, height: int) -> list[bytes]:
    """Make JPEG files, which take as long to decode as photographs of their size, in memory."""
    files = []
    for pixels in make_pixels(min(count, _DISTINCT), width, height):
        buffer = BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return [files[number % len(files)] for number in range(count)]


def make_shard(count: int, width: int, height: int, seed: int = 0) -> ImageShard:
    """Make a shard of decoded photographs of one size."""
    return pack(make_pixels(count, width, height, seed))


def pack(images: Sequence[np.ndarray]) -> ImageShard:
    """Pack decoded images into a shard, with their numbers as ids."""
    return ImageShard.pack([f"{number:06d}" for number in range(len(images))], images)


def input_side(architecture: str, input_size: int) -> int:
    """Return the side of an architecture's input: the setting, its own if that is fixed, 299 for Inceptions.

    Args:
        architecture: Name of the architecture.
        input_size: Side of the input of the other networks, in pixels.
    """
    if architecture in models.ARCHITECTURES:
        return models.ARCHITECTURES[architecture].size
    return 299 if "inception" in architecture else input_size


def make_member(
    architecture: str,
    size: int,
    views: Views | None = None,
    precision: Precision = "float32",
    name: str | None = None,
    path: Path = Path("random"),
) -> Member:
    """Make a member whose weights are random.

    Args:
        architecture: Name of the architecture.
        size: Side of the input, in pixels.
        views: Test-time views; the image as it is if None.
        precision: Precision of weights and activations.
        name: Name of the member; the architecture's if None.
        path: File of the weights, if they are to be loaded from one.
    """
    return Member(
        name=name or architecture,
        architecture=architecture,
        classes=tuple(range(CLASSES)),
        checkpoint=path,
        weights_sha256=sha256(f"{name or architecture}".encode()).hexdigest(),
        head="",
        parameters=0,
        preprocessing=Preprocessing(
            size=size,
            resize=math.ceil(size * 256 / 224),
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        ),
        views=views or CenterView(),
        data_sha256="0" * 64,
        precision=precision,
    )


def make_network(architecture: str, size: int, device: torch.device, seed: int = 0) -> nn.Module:
    """Build a network with random weights whose activations stay near 1, in evaluation mode.

    Fresh batch normalisation in evaluation mode does not normalise: the activations of 150 layers would
    overflow, and nothing could be compared. So its statistics are those of one batch of noise.

    Args:
        architecture: Name of the architecture.
        size: Side of the input, in pixels.
        device: Device that the weights are drawn on, which a GPU does in no time.
        seed: Seed of the weights and of the noise.
    """
    with torch.device(device):
        network = models.build(architecture, CLASSES, seed)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(_SETTLE_IMAGES, 3, size, size, generator=generator).to(device)
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(noise)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return network.eval()


def save_network(network: nn.Module, member: Member, path: Path) -> None:
    """Write the weights of a network as the checkpoint of a member."""
    metadata = {
        "architecture": member.architecture,
        "classes": json.dumps(list(member.classes)),
        "head": find_head(network),
        "parameters": str(sum(p.numel() for p in network.parameters())),
        "preprocessing": member.preprocessing.model_dump_json(),
    }
    checkpoint.save(network, path, metadata)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done everything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """Time a piece of work, from an idle device to an idle device."""
    synchronise(device)
    started = time.perf_counter()
    run()
    synchronise(device)
    return time.perf_counter() - started


def timed_in_turn(
    ways: Mapping[str, Callable[[], object]], device: torch.device, repeats: int
) -> dict[str, float]:
    """Time several ways in turn, after a round to warm up, and return the median seconds of each."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for repeat in range(repeats + 1):
        for way, run in ways.items():
            took = seconds_of(run, device)
            if repeat:
                seconds[way].append(took)
    return {way: statistics.median(times) for way, times in seconds.items()}
