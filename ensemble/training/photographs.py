"""Photographs to train on: decoded once, resized to their short side, and kept on disk as uint8 within a bound.

Images are read one by one in any order, so that an epoch shuffles all of them and the memory that is
needed does not grow with their number.
"""

import os
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from ensemble.errors import EmptySplitError
from ensemble.images.decode import unreadable
from ensemble.images.index import ImageIndex
from ensemble.images.shard import BadImage, ImageShard
from ensemble.inference.resized import without_strips
from ensemble.members.identity import fingerprint, library_versions
from ensemble.members.settings import Interpolation, Preprocessing
from ensemble.training.photograph_packs import Image, Pack, PackMemory, open_pack, write_pack

# Images in one file: about 70 MB of photographs at a short side of 256.
PACK_IMAGES = 256
# Part of the key of what is kept: raise it when the same images are to be kept in another way.
_VERSION = 3
_MB = 1 << 20

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class KeptForm:
    """How photographs are kept.

    Attributes:
        short_side: Largest short side that is kept, in pixels; smaller images stay as they are.
        is_stretched: Whether images are stretched to a square of that side.
        interpolation: Interpolation that they are resized with, antialiased.
    """

    short_side: int
    is_stretched: bool
    interpolation: Interpolation

    def resize(self, image: Image) -> Image:
        """Resize an image that is larger than what is kept."""
        if min(image.shape[:2]) <= self.short_side:
            return image
        side = self.short_side
        # A view: three times as fast as a copy in which each channel lies together.
        resized: torch.Tensor = transforms.resize(
            torch.from_numpy(image).permute(2, 0, 1),
            [side, side] if self.is_stretched else [side],
            InterpolationMode(self.interpolation),
            antialias=True,
        )
        return np.ascontiguousarray(resized.numpy().transpose(1, 2, 0))


class Photographs:
    """The photographs of a training, by row.

    Args:
        index: Images and labels.
        form: How images are kept.
        preprocessing: How images will be resized; strips that it would blow up count as bad.
        decode: Decodes images by their ids, and yields a shard of one or more after the other.
        folder: Folder of the files that hold them; images stay undecoded until they are read if None.
        disk_mb: Disk that all files in the folder may take, in MB.
        threads: Threads that decode.

    Raises:
        EmptySplitError: None of the images could be decoded.
    """

    def __init__(
        self,
        index: ImageIndex,
        form: KeptForm,
        preprocessing: Preprocessing,
        decode: Callable[[tuple[str, ...]], Iterable[ImageShard]],
        folder: Path | None = None,
        disk_mb: int = 0,
        threads: int = 1,
    ) -> None:
        self._form, self._preprocessing, self._decode = form, preprocessing, decode
        self._source, self._folder = index.source, folder
        self._free_bytes = disk_mb * _MB - _size_of(folder) if folder else 0
        self._lock, self._of_thread = threading.Lock(), threading.local()
        # In the order of ids, so that the order in which images are listed changes no weights.
        image_ids = sorted(str(image_id) for image_id in index.image_ids)
        packs = [
            tuple(image_ids[start : start + PACK_IMAGES])
            for start in range(0, len(image_ids), PACK_IMAGES)
        ]
        with ThreadPoolExecutor(max(1, threads)) as pool:
            self._packs = list(in_order(pool, self._make_pack, packs, ahead=max(1, threads)))
        self._places = [
            (number, row)
            for number, pack in enumerate(self._packs)
            for row in range(len(pack.image_ids))
        ]
        if not self._places:
            raise EmptySplitError("none of the images to train on could be decoded.")
        self.image_ids = tuple(self._packs[n].image_ids[row] for n, row in self._places)
        self.sides = torch.from_numpy(np.concatenate([pack.sides for pack in self._packs]))
        self.bad = tuple(bad for pack in self._packs for bad in pack.bad)

    def __len__(self) -> int:
        return len(self._places)

    def read(self, row: int) -> Image:
        """Read an image as it is kept; one that no file holds is decoded again."""
        number, place = self._places[row]
        pack = self._packs[number]
        if (image := pack.read(place)) is not None:
            return image
        reasons = list[str]()
        for shard in self._decode((pack.image_ids[place],)):
            for image in shard.images():
                return self._form.resize(image)
            reasons += [bad.reason for bad in shard.bad]
        raise unreadable(pack.image_ids[place], "; ".join(reasons))

    def _make_pack(self, image_ids: tuple[str, ...]) -> Pack:
        path = self._path(image_ids)
        if path is not None and (pack := open_pack(path)) is not None:
            return pack
        pixels = self._pixels()
        sound_ids, sides, checksums = list[str](), list[tuple[int, ...]](), list[int]()
        bad = list[BadImage]()
        for part in self._decode(image_ids):
            shard = without_strips(part, self._preprocessing)
            sound_ids += shard.image_ids.tolist()
            for image in map(self._form.resize, shard.images()):
                sides.append(image.shape[:2])
                checksums.append(zlib.crc32(image.data))
                if path is not None:
                    pixels.add(image)
            bad += shard.bad
        pack = Pack(
            tuple(sound_ids),
            np.array(sides, np.int64).reshape(-1, 2),
            tuple(checksums),
            tuple(bad),
        )
        size = pixels.all().nbytes
        with self._lock:  # packs are made by several threads
            if path is None or size > self._free_bytes:
                return pack
            self._free_bytes -= size
        write_pack(path, pack, pixels.all())
        return open_pack(path) or pack

    def _pixels(self) -> PackMemory:
        """Return empty memory of the thread that asks for it."""
        if not hasattr(self._of_thread, "pixels"):
            self._of_thread.pixels = PackMemory()
        pixels: PackMemory = self._of_thread.pixels
        pixels.clear()
        return pixels

    def _path(self, image_ids: Sequence[str]) -> Path | None:
        if self._folder is None:
            return None
        key = fingerprint(
            {
                "version": _VERSION,
                "source": self._source,
                "image_ids": list(image_ids),
                "short_side": self._form.short_side,
                "is_stretched": self._form.is_stretched,
                "interpolation": self._form.interpolation,
                "preprocessing": self._preprocessing.resize,
                "libraries": library_versions(""),
            }
        )
        return self._folder / f"{key[:24]}.photographs"


def in_order(
    pool: ThreadPoolExecutor,
    make: Callable[[Item], Result],
    items: Iterable[Item],
    ahead: int,
) -> Iterator[Result]:
    """Yield results in the order of the items, while at most `ahead` later ones are under way."""
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(make, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _size_of(folder: Path) -> int:
    if not folder.is_dir():
        return 0
    return sum(entry.stat().st_size for entry in os.scandir(folder) if entry.is_file())
