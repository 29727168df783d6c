"""A text file with the path or s3://bucket/key of an image on each line."""

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np

from ensemble.config import S3_SCHEME
from ensemble.errors import ConfigError, DecodeError
from ensemble.images.decode import decode
from ensemble.images.unlabelled.folder import ReadAhead, decode_file, read_object
from ensemble.images.unlabelled.open import Listed, Position
from ensemble.images.unlabelled.settings import UnlabelledConfig
from ensemble.storage.s3_store import S3Store

_LONGEST_LINE = 1 << 16


class _List:
    def __init__(self, config: UnlabelledConfig) -> None:
        self._config = config
        # A relative path is relative to the list: it means the same wherever the command is typed.
        self._folder = Path(config.path).parent
        self._stores: dict[str, S3Store] = {}
        self._ahead = ReadAhead(self._read)

    @property
    def retries(self) -> int:
        """Number of requests that were repeated so far."""
        return sum(store.retries for store in self._stores.values())

    def read_ahead(self, image_ids: Sequence[str]) -> None:
        """Begin to read the images at s3:// that will be decoded next."""
        remote = [key for key in image_ids if key.startswith(S3_SCHEME)]
        for key in remote:
            self._open(key)
        self._ahead.begin(remote)

    def listed(self, position: Position) -> Iterator[Listed]:
        path, number = self._config.path, 0
        try:
            with open(path, encoding="utf-8-sig") as file:
                while line := file.readline(_LONGEST_LINE):
                    if len(line) == _LONGEST_LINE or "\0" in line:
                        raise ValueError("a line is no path")
                    name = line.rstrip("\r\n")
                    if not name.strip():
                        continue
                    number += 1
                    if number > position.count:
                        yield Listed(name, name)
        except (OSError, ValueError) as error:  # bytes that are no text, too
            raise ConfigError(
                f"cannot read {path!r} as a list of images, after {number} lines: {error}. Expected a text file "
                "with the path or s3://bucket/key of an image on each line."
            ) from error

    def decode(self, key: str) -> np.ndarray:
        if not key.startswith(S3_SCHEME):
            return decode_file(self._folder / key, self._config.max_pixels)
        return decode(BytesIO(self._ahead.take(key)), self._config.max_pixels)

    def _read(self, key: str) -> bytes:
        bucket, _, name = key.removeprefix(S3_SCHEME).partition("/")
        if not name or not bucket:
            raise DecodeError("it is no s3://bucket/key")
        self._open(key)
        return read_object(self._stores[bucket], name, self._config.max_pixels)

    def _open(self, key: str) -> None:
        """Open the bucket of a key, before any thread reads from it."""
        bucket = key.removeprefix(S3_SCHEME).partition("/")[0]
        if bucket and bucket not in self._stores:
            self._stores[bucket] = S3Store(f"{S3_SCHEME}{bucket}", self._config.storage)


def open_source(config: UnlabelledConfig) -> _List:
    """Open the list; nothing is read yet."""
    return _List(config)
