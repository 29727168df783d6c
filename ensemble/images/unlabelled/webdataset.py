"""Image files in .tar files, as WebDataset keeps them."""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ensemble.errors import ConfigError, DecodeError
from ensemble.images.decode import decode, max_file_bytes
from ensemble.images.sources.listing import is_image_name
from ensemble.images.unlabelled.open import Listed, Position, files_in
from ensemble.images.unlabelled.settings import UnlabelledConfig


@dataclass(frozen=True)
class _WebDataset:
    config: UnlabelledConfig

    def listed(self, position: Position) -> Iterator[Listed]:
        number = 0
        for path in files_in(self.config.path, ".tar"):
            for member in _members(path):
                number += 1
                if number > position.count:
                    # Where the bytes lie, so that no process has to read the headers again.
                    key = f"{path.name}:{member.offset_data}:{member.size}"
                    yield Listed(key, f"{path.name}/{member.name}")

    def decode(self, key: str) -> np.ndarray:
        name, offset, size = key.rsplit(":", 2)
        if int(size) > max_file_bytes(self.config.max_pixels):
            raise DecodeError(f"it has {size} bytes, which is no image of max_pixels")
        place = Path(self.config.path)
        try:
            with (place / name if place.is_dir() else place).open("rb") as file:
                file.seek(int(offset))
                content = file.read(int(size))
        except OSError as error:
            raise DecodeError(f"it cannot be read: {error.strerror}") from error
        return decode(io.BytesIO(content), self.config.max_pixels)


def _members(path: Path) -> Iterator[tarfile.TarInfo]:
    """Give the image files of a .tar file in their order; it is read by its headers only."""
    try:
        with tarfile.open(path, "r:") as tar:  # not compressed: images lie at known places
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # it would keep every header
                if member.isfile() and is_image_name(member.name):
                    yield member
    except (OSError, tarfile.TarError) as error:
        raise ConfigError(
            f"cannot read {str(path)!r} as a .tar file: {error}. Expected one that is not compressed."
        ) from error


def open_source(config: UnlabelledConfig) -> _WebDataset:
    """Open the files; nothing is read yet."""
    return _WebDataset(config)
