"""Labelled images of which only ids and labels are there: what imported predictions are about."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ensemble.errors import ConfigError, DataError, DecodeError
from ensemble.images.index import ImageIndex

if TYPE_CHECKING:
    from ensemble.images.settings import ListedConfig


@dataclass(frozen=True)
class _Listed:
    path: Path

    def index(self) -> ImageIndex:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            index = ImageIndex(
                source="listed-1",
                image_ids=np.array(found["image_ids"], np.str_),
                labels=np.array(found["labels"], np.int64),
                classes=tuple(found["classes"]),
            )
        except OSError as error:
            raise ConfigError(
                f"cannot read the list of images {str(self.path)!r}: {error.strerror}. If the folder was "
                "moved, set images.source.path in its config.json."
            ) from error
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{self.path} is not a list of images ({error!r}). Import again."
            ) from error
        if index.sha256 != found.get("sha256"):
            raise DataError(f"{self.path} is damaged: its sha256 is not its own. Import again.")
        return index

    def decode(self, image_id: str) -> np.ndarray:
        raise DecodeError(f"{image_id}: predictions were imported, images are not there")


def write(path: Path, index: ImageIndex) -> None:
    """Write a list that `open_source` reads."""
    document = {
        "version": 1,
        "sha256": index.sha256,
        "classes": list(index.classes),
        "labels": index.labels.tolist(),
        "image_ids": index.image_ids.tolist(),
    }
    path.write_text(json.dumps(document) + "\n", encoding="utf-8")


def open_source(config: "ListedConfig") -> _Listed:
    """The list; nothing is read yet."""
    return _Listed(config.path)
