"""Chapters: the listing of images that are answered, in pieces that are kept before any of them is.

A listing may be of 10^9 images. No process holds more than two chapters of it, and what an earlier
attempt has listed is not listed again: a part always is of the same images.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

from ensemble.errors import TableError
from ensemble.images.unlabelled.open import Listed, Position, UnlabelledSource
from ensemble.storage.store import Store, read_if_there

_KEY, _IMAGE_ID = "key", "image_id"


@dataclass(frozen=True)
class Chapter:
    """Some images of a listing, one after the other.

    Attributes:
        number: Place of the chapter in the listing.
        images: The images.
        is_last: Whether no image comes after it.
    """

    number: int
    images: tuple[Listed, ...]
    is_last: bool

    def shards(self, size: int) -> Iterator[tuple[str, tuple[Listed, ...]]]:
        """Divide the chapter into shards, each with the name of its part."""
        for index, start in enumerate(range(0, len(self.images), size)):
            yield part_key(self.number, index), self.images[start : start + size]


def part_key(chapter: int, shard: int) -> str:
    """Name the part of a shard."""
    return f"{parts_folder(chapter)}/{shard:06d}.parquet"


def parts_folder(chapter: int) -> str:
    """Name the folder with the parts of a chapter."""
    return f"parts/{chapter:06d}"


class Chapters:
    """Lists images chapter by chapter, each kept in a store before it is given.

    Args:
        source: The images.
        store: Where chapters are kept.
        size: Number of images of a chapter; the last one has fewer.
    """

    def __init__(self, source: UnlabelledSource, store: Store, size: int) -> None:
        self._source, self._store, self._size = source, store, size
        self._position = Position()
        self._listed: Iterator[Listed] | None = None

    def read(self, number: int) -> Chapter:
        """Give a chapter: as it is kept, or else from the listing. Chapters are read in order.

        Raises:
            ConfigError: The images cannot be listed.
            TableError: A chapter that is kept cannot be read.
        """
        key = f"chapters/{number:06d}.parquet"
        content = read_if_there(self._store, key)
        if content is None:
            content = self._list()
            if not self._store.create(key, content):
                # Another process lists the same images, which may have changed since it began.
                content, self._listed = self._store.read(key), None
        images = _decode(content, f"{self._store.url}/{key}")
        last = images[-1].key if images else self._position.last
        self._position = Position(self._position.count + len(images), last)
        return Chapter(number, images, len(images) < self._size)

    def _list(self) -> bytes:
        if self._listed is None:
            self._listed = self._source.listed(self._position)
        images = list(islice(self._listed, self._size))
        keys = pa.array([image.key for image in images], pa.string())
        # Most sources call an image what it is decoded by.
        ids = pa.array(
            [None if image.image_id == image.key else image.image_id for image in images],
            pa.string(),
        )
        buffer = io.BytesIO()
        pq.write_table(pa.table({_KEY: keys, _IMAGE_ID: ids}), buffer, compression="zstd")
        return buffer.getvalue()


def _decode(content: bytes, place: str) -> tuple[Listed, ...]:
    try:
        table = pq.read_table(io.BytesIO(content))
        pairs = zip(table[_KEY].to_pylist(), table[_IMAGE_ID].to_pylist(), strict=True)
        return tuple(Listed(key, key if name is None else name) for key, name in pairs)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise TableError(
            f"{place} cannot be read as a chapter of a listing: {error}. Give another --out, or remove the "
            "folder and predict again."
        ) from error
