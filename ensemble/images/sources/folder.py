"""A folder of image files, of which folders or a table of labels tell the classes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ensemble.config import S3_SCHEME
from ensemble.images.decode import decode, unreadable
from ensemble.images.index import ImageIndex
from ensemble.images.names import to_path, to_text
from ensemble.images.open import Source
from ensemble.images.settings import FolderConfig
from ensemble.images.sources.layout import TEST_FOLDER, lay_out
from ensemble.images.sources.listing import walk


@dataclass(frozen=True)
class _Folder:
    config: FolderConfig

    def index(self) -> ImageIndex:
        test = None if self.config.test is None else walk(Path(self.config.test))
        return lay_out("folder-1", self.config, walk(Path(self.config.path)), test)

    def decode(self, image_id: str) -> UInt8[np.ndarray, "height width 3"]:
        return self._decode(image_id, None)

    def decode_reduced(self, image_id: str, short_side: int) -> UInt8[np.ndarray, "height width 3"]:
        return self._decode(image_id, short_side)

    def _decode(self, image_id: str, short_side: int | None) -> UInt8[np.ndarray, "height width 3"]:
        root, key = self.config.path, image_id
        if self.config.test is not None and image_id.startswith(TEST_FOLDER):
            root, key = self.config.test, image_id.removeprefix(TEST_FOLDER)
        path = to_path(Path(root), key)
        try:
            return decode(path, self.config.max_pixels, short_side)
        except OSError as error:
            raise unreadable(to_text(path), error.strerror or str(error)) from error


def open_source(config: FolderConfig) -> Source:
    """Open a folder, or a prefix of S3; nothing is read yet."""
    if config.path.startswith(S3_SCHEME):
        from ensemble.images.sources.s3_folder import open_remote_folder

        return open_remote_folder(config)
    return _Folder(config)
