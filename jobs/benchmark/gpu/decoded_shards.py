"""Shards that processes of their own decode from JPEG files in memory. No torch, so that they start at once."""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from ensemble.images.decode import decode
from ensemble.images.shard import ImageShard

MAX_PIXELS = 1 << 24


@dataclass(frozen=True)
class DecodedShard:
    """A shard that a process decoded into a file, which any process maps without a copy.

    Attributes:
        path: File of the packed pixels.
        heights: Height of each image, in pixels.
        widths: Width of each image, in pixels.
        cpu_s: CPU seconds that decoding took.
    """

    path: Path
    heights: list[int]
    widths: list[int]
    cpu_s: float

    def shard(self) -> ImageShard:
        """Map the pixels as a shard."""
        return ImageShard(
            image_ids=np.array([f"{number:06d}" for number in range(len(self.heights))]),
            pixels=np.load(self.path, mmap_mode="r"),
            heights=np.array(self.heights),
            widths=np.array(self.widths),
        )


def decode_ahead(
    executor: ProcessPoolExecutor, ahead: int, jpegs: list[bytes], folder: Path, shards: int
) -> Iterator[DecodedShard]:
    """Decode shards in order, a bounded number of them ahead of the one that is used."""
    waiting: deque[Future[DecodedShard]] = deque()
    for number in range(shards):
        path = folder / f"{number}.npy"
        waiting.append(executor.submit(_decode_to, path, jpegs))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _decode_to(path: Path, jpegs: list[bytes]) -> DecodedShard:
    """Decode JPEG files into a file of pixels; runs in a process of its own."""
    started = time.process_time()
    images = [decode(BytesIO(jpeg), MAX_PIXELS) for jpeg in jpegs]
    cpu_s = time.process_time() - started
    np.save(path, np.concatenate([image.reshape(-1) for image in images]))
    return DecodedShard(
        path, [image.shape[0] for image in images], [image.shape[1] for image in images], cpu_s
    )
