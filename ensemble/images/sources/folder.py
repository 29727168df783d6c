"""A folder of image files with one sub-folder per class."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ensemble.config import S3_SCHEME
from ensemble.errors import ConfigError
from ensemble.images.decode import DECODER, SUFFIXES, decode
from ensemble.images.index import ImageIndex, without_image
from ensemble.images.open import Source
from ensemble.images.settings import FolderConfig


@dataclass(frozen=True)
class _Folder:
    root: Path
    max_pixels: int

    def index(self) -> ImageIndex:
        classes = self._classes()
        files = [self._files(name) for name in classes]
        paths = [path for group in files for path in group]
        digest = sha256()
        for path in paths:
            # Size and time, not content: listing must stay cheap on a million files.
            stat = path.stat()
            digest.update(
                f"{path.relative_to(self.root)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode()
            )
        return ImageIndex(
            source=f"folder-1 {DECODER} {digest.hexdigest()}",
            image_ids=np.array([path.relative_to(self.root).as_posix() for path in paths], np.str_),
            labels=np.repeat(np.arange(len(classes)), [len(group) for group in files]),
            classes=tuple(classes),
        )

    def _classes(self) -> list[str]:
        try:
            names = sorted(entry.name for entry in self.root.iterdir() if entry.is_dir())
        except OSError as error:
            raise ConfigError(
                f"cannot read the image folder {str(self.root)!r}: {error.strerror}. Expected a folder "
                "with one sub-folder per class; set images.source.path."
            ) from error
        if not names:
            raise ConfigError(
                f"the image folder {str(self.root)!r} has no sub-folder; expected one per class."
            )
        return names

    def _files(self, name: str) -> list[Path]:
        folder = self.root / name
        files = sorted(
            path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()
        )
        if not files:
            raise without_image(name, str(folder))
        return files

    def decode(self, image_id: str) -> UInt8[np.ndarray, "height width 3"]:
        return decode(self.root / image_id, self.max_pixels)


def open_source(config: FolderConfig) -> Source:
    """Open a folder, or a prefix of S3; nothing is read yet."""
    if config.path.startswith(S3_SCHEME):
        from ensemble.images.sources.s3_folder import open_remote_folder

        return open_remote_folder(config)
    return _Folder(Path(config.path), config.max_pixels)
