"""ensemble / evaluation / reading: say here what this file is responsible for."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int, Shaped

from ensemble.evaluation.calibration import apply_temperature
from ensemble.images.index import ImageIndex
from ensemble.members.member import Member
from ensemble.outranking.builder import OutrankingBuilder
from ensemble.outranking.table import OutrankingTable
from ensemble.table.logit_table import LogitTable

WINDOW_IMAGES = 1024


def said(
    table: LogitTable, member: Member, image_ids: Sequence[str] | Shaped[np.ndarray, "image"]
) -> Float[np.ndarray, "image class"]:
    """Log-probabilities of a member at its temperature."""
    return apply_temperature(table.read(member.column, image_ids), member.temperature)


def windows(
    table: LogitTable, members: Sequence[Member], images: ImageIndex
) -> Iterator[tuple[list[Float[np.ndarray, "image class"]], Int[np.ndarray, "image"]]]:
    """What each member said and labels, for a bounded number of images at a time."""
    for start in range(0, len(images), WINDOW_IMAGES):
        ids = images.image_ids[start : start + WINDOW_IMAGES]
        rows = [said(table, member, ids) for member in members]
        yield rows, images.labels[start : start + WINDOW_IMAGES]


def build_outranking(
    table: LogitTable, members: Sequence[Member], images: ImageIndex
) -> OutrankingTable:
    """The outranking table of a split."""
    builder = OutrankingBuilder(tuple(member.name for member in members))
    for rows, labels in windows(table, members, images):
        builder.add(rows, labels)
    return builder.finish()


class StreamingOutranking:
    """The outranking table of a split, built while blocks arrive: what `build_outranking` gives."""

    def __init__(
        self, table: LogitTable, members: Sequence[Member], images: ImageIndex, shard_images: int
    ) -> None:
        self._table, self._members, self._images = table, members, images
        self._columns = [member.column for member in members]
        self._shard_images = shard_images
        self._builder = OutrankingBuilder(tuple(member.name for member in members))
        self._next = 0
        self._read: list[str] = []

    def landed(self) -> None:
        """Read every shard that all members have by now, as far as no earlier one is lacking."""
        while self._next < len(self._images):
            rows = np.arange(self._next, min(self._next + self._shard_images, len(self._images)))
            ids = self._images.image_ids[rows]
            if any(self._table.missing(column, ids) for column in self._columns):
                return
            bad = {image.image_id for image in self._table.bad_images(self._columns)}
            part = self._images.take(rows[[str(i) not in bad for i in ids]])
            for columns, labels in windows(self._table, self._members, part):
                self._builder.add(columns, labels)
            self._read += part.image_ids.tolist()
            self._next += len(rows)

    def finish(self, images: ImageIndex) -> OutrankingTable:
        """Give the table of the images that are left when all blocks are there.

        If other images are left than were read, all is read again.

        Raises:
            EmptySplitError: No image is left.
            IncompleteTableError: A block is lacking.
        """
        self.landed()
        if self._read and self._read == images.image_ids.tolist():
            return self._builder.finish()
        return build_outranking(self._table, self._members, images)
