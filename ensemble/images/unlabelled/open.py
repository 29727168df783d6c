"""Open unlabelled images of any form."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from ensemble.config import S3_SCHEME
from ensemble.errors import ConfigError
from ensemble.images.names import is_leftover
from ensemble.images.unlabelled.settings import Form, UnlabelledConfig


@dataclass(frozen=True)
class Listed:
    """An image as a listing names it.

    Attributes:
        key: What it is decoded by, one of its own within the source.
        image_id: What a person calls it.
    """

    key: str
    image_id: str


@dataclass(frozen=True)
class Position:
    """Where a listing goes on.

    Attributes:
        count: Number of images listed before.
        last: Key of the last of them; None at the beginning.
    """

    count: int = 0
    last: str | None = None


@runtime_checkable
class UnlabelledSource(Protocol):
    """Unlabelled images that can be listed from any position, and decoded one by one."""

    def listed(self, position: Position) -> Iterator[Listed]:
        """List images in a fixed order, from a position on; nothing is decoded.

        Raises:
            ConfigError: There is no such place, or it cannot be read.
        """

    def decode(self, key: str) -> np.ndarray:
        """Decode one image to RGB, uint8 `[height, width, 3]`.

        Raises:
            DecodeError: The image cannot be decoded; the message is the reason.
        """


_MODULES: dict[Form, str] = {
    "folder": "ensemble.images.unlabelled.folder",
    "list": "ensemble.images.unlabelled.text_list",
    "parquet": "ensemble.images.unlabelled.parquet",
    "webdataset": "ensemble.images.unlabelled.webdataset",
}
_FORMS: dict[str, Form] = {".parquet": "parquet", ".tar": "webdataset"}


@cache
def open_unlabelled(config: UnlabelledConfig) -> UnlabelledSource:
    """Open the images that the settings describe; nothing is listed yet.

    A process opens them once, because connecting to S3 takes longer than reading.

    Raises:
        ConfigError: There is no such place.
    """
    form = config.form or form_of(config.path)
    source: UnlabelledSource = import_module(_MODULES[form]).open_source(config)
    return source


def form_of(path: str) -> Form:
    """Tell the form of images by their place.

    Raises:
        ConfigError: There is no such place.
    """
    if path.startswith(S3_SCHEME):
        return "folder"
    place = Path(path)
    if place.is_dir():
        suffixes = {entry.suffix for entry in _entries(place) if entry.suffix in _FORMS}
        if len(suffixes) > 1:
            raise ConfigError(
                f"{path!r} holds .parquet and .tar files. Expected one of them; set form=parquet or "
                "form=webdataset."
            )
        return _FORMS[suffixes.pop()] if suffixes else "folder"
    if not place.is_file():
        raise ConfigError(
            f"there is no {path!r}. Expected a folder of images, a text file that lists them, a .parquet or a "
            ".tar file, or s3://bucket/prefix."
        )
    return _FORMS.get(place.suffix, "list")


def files_in(path: str, suffix: str) -> list[Path]:
    """List the files of a suffix directly in a folder, sorted; a file is listed alone.

    Raises:
        ConfigError: There is no such file.
    """
    place = Path(path)
    if not place.is_dir():
        return [place]
    files = [entry for entry in _entries(place) if entry.suffix == suffix and entry.is_file()]
    if not files:
        raise ConfigError(f"there is no {suffix} file in {path!r}. Expected at least one.")
    return sorted(files)


def _entries(folder: Path) -> list[Path]:
    try:
        return [entry for entry in folder.iterdir() if not is_leftover(entry.name)]
    except OSError as error:
        raise ConfigError(
            f"cannot list {str(folder)!r}: {error.strerror}. Mend its permissions, or give another folder."
        ) from error
