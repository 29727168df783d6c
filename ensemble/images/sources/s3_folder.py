"""A prefix of an S3 bucket with one sub-folder of image objects per class."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from hashlib import sha256
from io import BytesIO
from pathlib import PurePosixPath

import numpy as np
from jaxtyping import UInt8

from ensemble.errors import ConfigError, DamagedTableError, DecodeError
from ensemble.images.decode import DECODER, SUFFIXES, decode
from ensemble.images.index import ImageIndex, without_image
from ensemble.images.settings import FolderConfig
from ensemble.storage.s3_store import Listed, S3Store
from ensemble.storage.settings import S3Config

# Requests under way at a time: a round trip takes longer than the bytes of a photograph.
READS_AT_ONCE = 16
# No image file is larger: `max_pixels` uncompressed, with four channels of 16 bits, and its header.
_BYTES_PER_PIXEL, _HEADER_BYTES = 8, 1 << 20


class RemoteFolder:
    """Objects below a prefix. An object that is gone is a bad image; a store that does not answer ends the run.

    Args:
        store: Store of the prefix.
        max_pixels: Largest number of pixels that is decoded.
    """

    def __init__(self, store: S3Store, max_pixels: int) -> None:
        self._store = store
        self._max_pixels = max_pixels
        self._threads = ThreadPoolExecutor(READS_AT_ONCE, "read")
        self._ahead: dict[str, Future[bytes]] = {}

    @property
    def retries(self) -> int:
        """Number of requests that were repeated so far."""
        return self._store.retries

    def index(self) -> ImageIndex:
        """List the labelled images by one listing of the prefix, without decoding any.

        The identity is made of names, sizes and ETags: the same objects copied elsewhere are the
        same source, as long as they were uploaded in one PUT each or in the same parts.

        Raises:
            ConfigError: There is no folder below the prefix, or one has no image.
        """
        objects = [entry for entry in self._store.listed() if "/" in entry.key]
        # In the order of a folder of the same files.
        objects.sort(key=lambda entry: entry.key.split("/"))
        classes = sorted({entry.key.partition("/")[0] for entry in objects})
        if not classes:
            raise ConfigError(
                f"there is no object in any folder below {self._store.url!r}; expected one folder per "
                "class. Correct images.source.path."
            )
        images = [entry for entry in objects if _is_image(entry)]
        class_of_image = [entry.key.partition("/")[0] for entry in images]
        present = set(class_of_image)
        for name in classes:
            if name not in present:
                raise without_image(name, f"{self._store.url}/{name}")
        digest = sha256()
        for entry in images:
            digest.update(f"{entry.key}\0{entry.size}\0{entry.etag}\n".encode())
        return ImageIndex(
            source=f"s3-folder-1 {DECODER} {digest.hexdigest()}",
            image_ids=np.array([entry.key for entry in images], np.str_),
            labels=np.searchsorted(classes, class_of_image).astype(np.int64),
            classes=tuple(classes),
        )

    def read_ahead(self, image_ids: Sequence[str]) -> None:
        """Begin to read images that will be decoded next."""
        self._ahead = {i: self._threads.submit(self._read, i) for i in image_ids}

    def decode(self, image_id: str) -> UInt8[np.ndarray, "height width 3"]:
        """Decode one image to RGB.

        Raises:
            DecodeError: The object is gone, too large, or no image that can be decoded.
        """
        ahead = self._ahead.pop(image_id, None)
        data = self._read(image_id) if ahead is None else ahead.result()
        return decode(BytesIO(data), self._max_pixels)

    def _read(self, image_id: str) -> bytes:
        try:
            return self._store.read_unverified(
                image_id, self._max_pixels * _BYTES_PER_PIXEL + _HEADER_BYTES
            )
        except DamagedTableError as error:
            raise DecodeError(f"{self._store.url}/{image_id}: no such object") from error
        except ValueError as error:
            raise DecodeError(f"{error}, which is no image of max_pixels") from error


def _is_image(entry: Listed) -> bool:
    return PurePosixPath(entry.key).suffix.lower() in SUFFIXES


def open_remote_folder(config: FolderConfig) -> RemoteFolder:
    """Open the prefix; nothing is read yet. A process opens it once, because connecting takes longer than reading."""
    return _opened(config.path, config.storage or S3Config(), config.max_pixels)


@cache
def _opened(url: str, storage: S3Config, max_pixels: int) -> RemoteFolder:
    return RemoteFolder(S3Store(url, storage), max_pixels)
