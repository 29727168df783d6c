"""The image index: which labelled images there are. Pixels stay where they are."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

import numpy as np
from jaxtyping import Int, Shaped

from ensemble.errors import ConfigError, DataError
from ensemble.images.decode import SUFFIXES


@dataclass(frozen=True)
class ImageIndex:
    """Labelled images of one source, in the source's own order.

    Attributes:
        source: Identity of the source: everything that decides what pixels an id stands for.
        image_ids: Unique text ids.
        labels: Class index of each image.
        classes: Class names; the order is the meaning of an index.
    """

    source: str
    image_ids: Shaped[np.ndarray, "image"]
    labels: Int[np.ndarray, "image"]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(np.unique(self.image_ids)) != len(self.image_ids):
            raise DataError(
                f"image ids of {self.source} are not unique; an id must name one image."
            )
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise DataError(
                f"labels of {self.source} lie in {self.labels.min()}..{self.labels.max()}, "
                f"but there are {len(self.classes)} classes."
            )

    def __len__(self) -> int:
        return len(self.image_ids)

    def take(self, rows: Int[np.ndarray, "row"]) -> "ImageIndex":
        """The images at some rows, in that order."""
        return ImageIndex(self.source, self.image_ids[rows], self.labels[rows], self.classes)

    def of_classes(self, classes: Iterable[int]) -> "ImageIndex":
        """The images of some classes, in the same order."""
        return self.take(np.flatnonzero(np.isin(self.labels, list(classes))))

    @cached_property
    def sha256(self) -> str:
        """Identity of the whole: source, ids, labels and class order."""
        digest = sha256(self.source.encode())
        for part in ("\0".join(self.image_ids), "\0".join(self.classes)):
            digest.update(b"\1" + part.encode())
        digest.update(np.ascontiguousarray(self.labels, dtype="<i8").tobytes())
        return digest.hexdigest()


def without_image(name: str, folder: str) -> ConfigError:
    """What to say of a class without an image."""
    return ConfigError(
        f"the class {name!r} has no image in {folder!r}; expected files ending in "
        f"{', '.join(sorted(SUFFIXES))}. Add some, or remove the folder."
    )
