"""Image files anywhere below a folder or a prefix of S3, listed folder by folder."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from ensemble.config import S3_SCHEME
from ensemble.errors import ConfigError, DamagedTableError, DecodeError
from ensemble.images.decode import decode, max_file_bytes
from ensemble.images.names import has_leftover, is_leftover, to_path, to_text
from ensemble.images.sources.listing import is_image_name
from ensemble.images.sources.s3_folder import READS_AT_ONCE
from ensemble.images.unlabelled.open import Listed, Position
from ensemble.images.unlabelled.settings import UnlabelledConfig
from ensemble.storage.s3_store import S3Store


@dataclass(frozen=True)
class _Folder:
    """Files of a folder of this machine; one folder's names are in memory at a time."""

    config: UnlabelledConfig

    def listed(self, position: Position) -> Iterator[Listed]:
        after = position.last.split("/") if position.last is not None else []
        for key in _walk(Path(self.config.path), "", after, frozenset()):
            yield Listed(key, key)

    def decode(self, key: str) -> np.ndarray:
        return decode_file(to_path(Path(self.config.path), key), self.config.max_pixels)


def _walk(
    folder: Path, prefix: str, after: list[str], around: frozenset[tuple[int, int]]
) -> Iterator[str]:
    """Give the keys of images in the order of their names, those after a key only.

    Args:
        folder: The folder.
        prefix: Its key, with a slash at the end; empty for the root.
        after: Parts of the key that comes before the first one; empty if all are to come.
        around: Identities of the folders around it, in which a link may not lead back.
    """
    try:
        status = folder.stat()
        with os.scandir(folder) as entries:
            names = sorted((to_text(entry.name), entry.path) for entry in entries)
    except OSError as error:
        raise ConfigError(
            f"cannot list {to_text(folder)!r}: {error.strerror}. Mend the cause, and run again: it goes on from "
            "there."
        ) from error
    identity = status.st_dev, status.st_ino
    if identity in around:
        return  # a link that leads back
    for name, path in names:
        if is_leftover(name) or (after and name < after[0]):
            continue
        is_last = bool(after) and name == after[0]
        if os.path.isdir(path):
            rest = after[1:] if is_last else []
            yield from _walk(Path(path), f"{prefix}{name}/", rest, around | {identity})
        elif is_image_name(name) and not is_last:
            yield f"{prefix}{name}"


class _Prefix:
    """Objects below a prefix of S3."""

    def __init__(self, config: UnlabelledConfig) -> None:
        self._config = config
        self._store = S3Store(config.path, config.storage)
        self._ahead = ReadAhead(lambda key: read_object(self._store, key, config.max_pixels))

    @property
    def retries(self) -> int:
        """Number of requests that were repeated so far."""
        return self._store.retries

    def read_ahead(self, image_ids: Sequence[str]) -> None:
        """Begin to read images that will be decoded next."""
        self._ahead.begin(image_ids)

    def listed(self, position: Position) -> Iterator[Listed]:
        for key in self._store.keys_after(position.last):
            if is_image_name(key) and not has_leftover(key.split("/")):
                yield Listed(key, key)

    def decode(self, key: str) -> np.ndarray:
        return decode(BytesIO(self._ahead.take(key)), self._config.max_pixels)


def decode_file(path: Path, max_pixels: int) -> np.ndarray:
    """Decode a file; one that cannot be read is a bad image, whatever the reason.

    Raises:
        DecodeError: The file is not there, or cannot be read or decoded.
    """
    try:
        return decode(path, max_pixels)
    except OSError as error:
        raise DecodeError(f"it cannot be read: {error.strerror or error}") from error


class ReadAhead:
    """Reads that begin before their bytes are needed.

    Args:
        read: Reads the bytes of an image by its key.
    """

    def __init__(self, read: Callable[[str], bytes]) -> None:
        self._read = read
        self._threads = ThreadPoolExecutor(READS_AT_ONCE, "read")
        self._ahead: dict[str, Future[bytes]] = {}

    def begin(self, keys: Sequence[str]) -> None:
        """Begin to read images that will be decoded next; what was begun before is forgotten."""
        self._ahead = {key: self._threads.submit(self._read, key) for key in keys}

    def take(self, key: str) -> bytes:
        """Give the bytes of an image; an image may stand twice in a list."""
        ahead = self._ahead.get(key)
        return self._read(key) if ahead is None else ahead.result()


def read_object(store: S3Store, key: str, max_pixels: int) -> bytes:
    """Read an object.

    Raises:
        DecodeError: The object is not there, or is too large for an image.
    """
    try:
        return store.read_unverified(key, max_file_bytes(max_pixels))
    except DamagedTableError as error:
        raise DecodeError("there is no such object") from error
    except ValueError as error:
        raise DecodeError(f"{error}, which is no image of max_pixels") from error


def open_source(config: UnlabelledConfig) -> _Folder | _Prefix:
    """Open a folder, or a prefix of S3; nothing is read yet."""
    if config.path.startswith(S3_SCHEME):
        return _Prefix(config)
    if not Path(config.path).is_dir():
        raise ConfigError(f"{config.path!r} is no folder. Expected a folder of images.")
    return _Folder(config)
