"""A piece of an outranking table, and the blocks of images that pieces and tables grow of."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Int32

from ensemble.outranking.contested import ContestedBlock
from ensemble.outranking.growing import GrowingRows
from ensemble.outranking.likely_classes import LikelyClasses


@dataclass(frozen=True, eq=False)
class OutrankingPiece:
    """What an outranking table keeps of some images that follow one another; made where their rows are.

    Attributes:
        labels: Class index of each image.
        contested: Contested pairs, for each fixed point.
        likely: Likely classes, with the images' places in the whole table.
        num_classes: Classes that the rows have.
        first_image: Place of the first image in the whole table.
    """

    labels: Int[np.ndarray, " image"]
    contested: tuple[ContestedBlock, ...]
    likely: LikelyClasses
    num_classes: int
    first_image: int


class GrowingBlock:
    """The contested pairs of all images so far. Nearly all of their memory is differences."""

    def __init__(self, num_members: int) -> None:
        self._differences = GrowingRows(num_members, np.int32)
        self._others: list[dict[str, np.ndarray]] = []

    def append(self, block: ContestedBlock) -> None:
        """Put a block of the images that follow behind the others."""
        others = dict(vars(block))
        self._differences.append(others.pop("differences"))
        self._others.append(others)

    def finish(self, threads: int) -> ContestedBlock:
        """Give all of them as one block, and hold nothing more."""
        arrays = {"differences": self._differences.finish(threads)}
        for name in list(self._others[0]):
            parts = [others.pop(name) for others in self._others]
            arrays[name] = np.concatenate(parts, axis=parts[0].ndim - 1)
        self._others.clear()
        return ContestedBlock(**arrays)


class GrowingLikely:
    """The likely classes of all images so far."""

    def __init__(self, num_members: int) -> None:
        self._num_members = num_members
        self._steps: GrowingRows | None = None
        self._images: list[Int32[np.ndarray, " row"]] = []
        self._class_counts = np.zeros(0)

    def append(self, block: LikelyClasses) -> None:
        """Put those of the images that follow behind the others."""
        if self._steps is None:
            self._steps = GrowingRows(self._num_members, np.uint16, block.steps.shape[2:])
        self._steps.append(block.steps)
        self._images.append(block.images)
        self._class_counts = block.class_counts

    def finish(self, threads: int) -> LikelyClasses:
        """Give all of them, and hold nothing more."""
        assert self._steps is not None
        images = np.concatenate(self._images)
        return LikelyClasses(images, self._steps.finish(threads), self._class_counts)
