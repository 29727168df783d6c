"""A list of image ids and labels without pixels, which imported predictions refer to."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ensemble.errors import ConfigError, DamagedTableError, DataError, DecodeError
from ensemble.images.index import ImageIndex
from ensemble.storage.open import open_store
from ensemble.storage.settings import S3Config

if TYPE_CHECKING:
    from ensemble.images.settings import ListedConfig


@dataclass(frozen=True)
class _Listed:
    path: str
    storage: S3Config

    def index(self) -> ImageIndex:
        folder, _, name = self.path.rpartition("/")
        try:
            document = json.loads(open_store(folder or "/", self.storage).read(name))
            index = ImageIndex(
                source="listed-1",
                image_ids=np.array(document["image_ids"], np.str_),
                labels=np.array(document["labels"], np.int64),
                classes=tuple(document["classes"]),
            )
            is_whole = index.sha256 == document.get("sha256")
        except DamagedTableError as error:
            raise ConfigError(
                f"cannot read the list of images {self.path!r}: it is not there. If the folder was "
                "moved, set images.source.path in its config.json, and remove its line sha256."
            ) from error
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise DataError(
                f"{self.path} is not a list of images ({error!r}). Import again."
            ) from error
        if not is_whole:
            raise DataError(f"{self.path} is damaged: its sha256 is not its own. Import again.")
        return index

    def decode(self, image_id: str) -> np.ndarray:
        raise DecodeError(f"{image_id}: predictions were imported, images are not there")


def encode(index: ImageIndex) -> bytes:
    """Encode an index as a list that `open_source` reads."""
    document = {
        "version": 1,
        "sha256": index.sha256,
        "classes": list(index.classes),
        "labels": index.labels.tolist(),
        "image_ids": index.image_ids.tolist(),
    }
    return (json.dumps(document) + "\n").encode()


def open_source(config: "ListedConfig") -> _Listed:
    """Open the list; nothing is read yet."""
    return _Listed(config.path, config.storage or S3Config())
