"""Some photographs in one file: a description and the pixels, each in NumPy's format."""

import json
import os
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from ensemble.files import make_folder, partial_file, publish
from ensemble.images.shard import BadImage

Image = UInt8[np.ndarray, "_ _ 3"]
Bytes = UInt8[np.ndarray, " byte"]


@dataclass(frozen=True)
class Pack:
    """Some images in one file, or in memory where none was written.

    Attributes:
        image_ids: Ids of the images that could be decoded.
        sides: Height and width of each image as it is kept.
        checksums: CRC-32 of the pixels of each image.
        bad: Images that could not be decoded.
        path: File that holds the pixels; None if there is none.
        start: Place of the first pixel in the file.
    """

    image_ids: tuple[str, ...]
    sides: Int64[np.ndarray, "image 2"]
    checksums: tuple[int, ...]
    bad: tuple[BadImage, ...]
    path: Path | None = None
    start: int = 0

    @cached_property
    def _starts(self) -> list[int]:
        sizes = self.sides.prod(axis=1) * 3
        return [self.start + int(end) for end in np.cumsum(sizes) - sizes]

    def read(self, row: int) -> Image | None:
        """Read an image from the file; None if the file is gone or damaged there."""
        if self.path is None:
            return None
        image = np.empty((*self.sides[row].tolist(), 3), np.uint8)
        try:
            with self.path.open("rb", buffering=0) as file:
                os.preadv(file.fileno(), [image.data.cast("B")], self._starts[row])
        except OSError:
            return None
        # What was not read, because the file is too short, does not have the checksum either.
        return image if zlib.crc32(image.data) == self.checksums[row] else None


class PackMemory:
    """Memory that the pixels of a pack are gathered in, which the next pack uses again.

    A system that hands out new memory for each pack takes longer than all that is copied into it.
    """

    def __init__(self) -> None:
        self._memory, self._size = np.empty(0, np.uint8), 0

    def clear(self) -> None:
        """Begin the next pack."""
        self._size = 0

    def add(self, image: Image) -> None:
        """Put an image behind those that are there."""
        end = self._size + image.size
        if end > len(self._memory):
            grown = np.empty(max(end, 2 * len(self._memory)), np.uint8)
            grown[: self._size] = self._memory[: self._size]
            self._memory = grown
        self._memory[self._size : end] = image.reshape(-1)
        self._size = end

    def all(self) -> Bytes:
        """Return the pixels of all images, which the next pack overwrites."""
        return self._memory[: self._size]


def write_pack(path: Path, pack: Pack, pixels: Bytes) -> None:
    """Write a description and the pixels; NumPy writes an array without a copy of it."""
    about = {
        "image_ids": pack.image_ids,
        "sides": pack.sides.tolist(),
        "checksums": pack.checksums,
        "bad": [(bad.image_id, bad.reason) for bad in pack.bad],
    }
    make_folder(path.parent)
    with partial_file(path.parent) as file:
        np.save(file, np.frombuffer(json.dumps(about).encode(), np.uint8))
        np.save(file, pixels)
        # Every image has a checksum: what a power cut took is decoded again.
        publish(file, path, is_synced=False)


def open_pack(path: Path) -> Pack | None:
    """Read the description of a pack; None if there is no whole file."""
    try:
        with path.open("rb") as file:
            about = json.loads(np.load(file).tobytes())
            np.lib.format.read_magic(file)
            (size,), _, _ = np.lib.format.read_array_header_1_0(file)
            start = file.tell()
            if os.fstat(file.fileno()).st_size != start + size:
                return None
    # NumPy and JSON say so of a part of a file.
    except (FileNotFoundError, EOFError, ValueError):
        return None
    return Pack(
        tuple(about["image_ids"]),
        np.array(about["sides"], np.int64).reshape(-1, 2),
        tuple(about["checksums"]),
        tuple(BadImage(*pair) for pair in about["bad"]),
        path,
        start,
    )
