"""A prefix of an S3 bucket with image objects, of which folders or a table of labels tell the classes."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from io import BytesIO

import numpy as np
from jaxtyping import UInt8

from ensemble.errors import DamagedTableError, DecodeError
from ensemble.images.decode import decode, max_file_bytes, unreadable
from ensemble.images.index import ImageIndex
from ensemble.images.names import has_leftover
from ensemble.images.settings import FolderConfig
from ensemble.images.sources.layout import TEST_FOLDER, lay_out
from ensemble.images.sources.listing import (
    LEFTOVERS,
    OTHER_FILES,
    Aside,
    ImageFile,
    Listing,
    in_order,
    is_image_name,
)
from ensemble.storage.s3_store import S3Store
from ensemble.storage.settings import S3Config

# Requests under way at a time: a round trip takes longer than the bytes of a photograph.
READS_AT_ONCE = 16


class RemoteFolder:
    """Objects below a prefix. An object that is gone, and a store that does not answer, end the run.

    Args:
        config: Settings of the source.
        store: Store of the prefix.
        test: Store of the prefix of test images, if they have one of their own.
    """

    def __init__(self, config: FolderConfig, store: S3Store, test: S3Store | None = None) -> None:
        self._config = config
        self._store = store
        self._test = test
        self._threads = ThreadPoolExecutor(READS_AT_ONCE, "read")
        self._ahead: dict[str, Future[bytes]] = {}

    @property
    def retries(self) -> int:
        """Number of requests that were repeated so far."""
        return self._store.retries + (self._test.retries if self._test else 0)

    def index(self) -> ImageIndex:
        """List the labelled images by one listing of the prefix, without decoding any.

        The identity is made of names, sizes and ETags: the same objects copied elsewhere are the
        same source, as long as they were uploaded in one PUT each or in the same parts.

        Raises:
            ConfigError: There is no folder below the prefix, or one has no image.
        """
        return lay_out("s3-folder-1", self._config, _listing(self._store), self._listed_test())

    def _listed_test(self) -> Listing | None:
        return None if self._test is None else _listing(self._test)

    def read_ahead(self, image_ids: Sequence[str]) -> None:
        """Begin to read images that will be decoded next."""
        self._ahead = {i: self._threads.submit(self._read, i) for i in image_ids}

    def decode(self, image_id: str) -> UInt8[np.ndarray, "height width 3"]:
        """Decode one image to RGB.

        Raises:
            DecodeError: The object is too large, or no image that can be decoded.
            DataError: The object is gone since the prefix was listed.
        """
        return decode(self._bytes(image_id), self._config.max_pixels)

    def decode_reduced(self, image_id: str, short_side: int) -> UInt8[np.ndarray, "height width 3"]:
        """Decode one image that will be resized to a short side; it raises what `decode` does."""
        return decode(self._bytes(image_id), self._config.max_pixels, short_side)

    def _bytes(self, image_id: str) -> BytesIO:
        ahead = self._ahead.pop(image_id, None)
        return BytesIO(self._read(image_id) if ahead is None else ahead.result())

    def _read(self, image_id: str) -> bytes:
        store, key, limit = self._store, image_id, max_file_bytes(self._config.max_pixels)
        if self._test is not None and image_id.startswith(TEST_FOLDER):
            store, key = self._test, image_id.removeprefix(TEST_FOLDER)
        try:
            return store.read_unverified(key, limit)
        except DamagedTableError as error:
            raise unreadable(f"{store.url}/{key}", "no such object") from error
        except ValueError as error:
            raise DecodeError(f"{error}, which is no image of max_pixels") from error


def _listing(store: S3Store) -> Listing:
    files, folders, aside = [], set(), Aside()
    for entry in store.listed():
        *parents, name = entry.key.split("/")
        if has_leftover((*parents, name)):
            aside.add(LEFTOVERS, entry.key)
            continue
        folders |= {"/".join(parents[:depth]) for depth in range(1, len(parents) + 1)}
        if name and is_image_name(name):
            files.append(ImageFile(entry.key, f"{entry.size}\0{entry.etag}"))
        elif name:
            aside.add(OTHER_FILES, entry.key)
    return Listing(store.url, in_order(files), frozenset(folders), aside.notes())


def open_remote_folder(config: FolderConfig) -> RemoteFolder:
    """Open the prefix; nothing is read yet. A process opens it once, because connecting takes longer than reading."""
    return _opened(config)


@cache
def _opened(config: FolderConfig) -> RemoteFolder:
    storage = config.storage or S3Config()
    test = None if config.test is None else S3Store(config.test, storage)
    return RemoteFolder(config, S3Store(config.path, storage), test)
