"""The image index: which labelled images a source has, without their pixels."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256

import numpy as np
from jaxtyping import Int, Shaped

from ensemble.errors import DataError
from ensemble.images.shard import BadImage


@dataclass(frozen=True)
class ImageIndex:
    """Labelled images of one source, in the source's own order.

    Attributes:
        source: Identity of the source: everything that decides which pixels an id stands for.
        image_ids: Unique text id of each image.
        labels: Class index of each image.
        classes: Name of each class, by class index.
        parts: Part of the source that each image lies in: train, val or test; None where the source has
            no parts.
        bad: Images that are known to be no images without decoding any, and that no row stands for.
        notes: What a person should know of the listing: what was left aside, and how it was understood.

    Raises:
        DataError: Two images have one id, or a label is no class index.
    """

    source: str
    image_ids: Shaped[np.ndarray, "image"]
    labels: Int[np.ndarray, "image"]
    classes: tuple[str, ...]
    parts: Shaped[np.ndarray, "image"] | None = None
    bad: tuple[BadImage, ...] = ()
    notes: tuple[str, ...] = ()

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
        """Take the images at some rows, in that order."""
        return replace(
            self,
            image_ids=self.image_ids[rows],
            labels=self.labels[rows],
            parts=None if self.parts is None else self.parts[rows],
        )

    def of_classes(self, classes: Iterable[int]) -> "ImageIndex":
        """Take the images of some classes, in the same order."""
        return self.take(np.flatnonzero(np.isin(self.labels, list(classes))))

    @cached_property
    def sha256(self) -> str:
        """Identity of the index: source, ids, labels and class names, in 64 hexadecimal digits."""
        digest = sha256(self.source.encode())
        for part in ("\0".join(self.image_ids), "\0".join(self.classes)):
            digest.update(b"\1" + part.encode())
        digest.update(np.ascontiguousarray(self.labels, dtype="<i8").tobytes())
        return digest.hexdigest()
