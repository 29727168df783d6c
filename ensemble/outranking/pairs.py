"""Which pairs belong to which image, and how many marked pairs each image has."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int, Int32, UInt8


@dataclass(eq=False)  # not frozen: it remembers the places that it looked up
class Pairs:
    """Where the pairs of each image are, those images left out that have none.

    Attributes:
        images: These images, ascending.
        first: The first pair of each.
        num_certain: Classes that outrank the label whatever the weights, of each.
        num_pairs: Pairs of all of them.
    """

    images: Int[np.ndarray, " image"]
    first: Int[np.ndarray, " image"]
    num_certain: Int32[np.ndarray, " image"]
    num_pairs: int
    _places: dict[int, tuple[Int[np.ndarray, " run"], UInt8[np.ndarray, " run"]]] = field(
        default_factory=dict, repr=False
    )

    @classmethod
    def of(
        cls, indptr: Int[np.ndarray, " bound"], num_certain: Int32[np.ndarray, " all"]
    ) -> "Pairs":
        """Describe pairs indptr[i]:indptr[i + 1] of each image i."""
        images = np.flatnonzero(np.diff(indptr))
        return cls(images, indptr[images], num_certain[images], int(indptr[-1]))

    def count(self, marked: Bool[np.ndarray, "*member pair"]) -> Int32[np.ndarray, "*member image"]:
        """Count the marked pairs of each image: by bits, several times faster than by reduceat."""
        if not marked.size:
            return np.zeros((*marked.shape[:-1], len(self.first)), dtype=np.int32)
        num_rows = marked.size // self.num_pairs
        if num_rows not in self._places:
            self._places[num_rows] = self._places_in(num_rows)
        byte, mask = self._places[num_rows]
        packed = np.packbits(marked.reshape(-1))
        total = np.zeros(len(packed) + 1, dtype=np.int32)
        np.cumsum(np.bitwise_count(packed), dtype=np.int32, out=total[1:])
        before = total.take(byte)
        before += np.bitwise_count(packed.take(byte, mode="clip") & mask)  # behind all: masked
        counts = before[1:] - before[:-1]
        return counts.reshape(*marked.shape[:-1], len(self.first))

    def marked(
        self, images: Int[np.ndarray, " chosen"], marked: Bool[np.ndarray, " pair"]
    ) -> tuple[Int[np.ndarray, " item"], Int[np.ndarray, " item"]]:
        """List the marked pairs of some images, by their places here, and the place of each."""
        begin = self.first.take(images)
        num_pairs = self.bounds.take(images + 1) - begin
        last = np.cumsum(num_pairs)
        index = np.arange(last[-1] if len(last) else 0)
        index += np.repeat(begin - (last - num_pairs), num_pairs)
        places = np.flatnonzero(marked.take(index))
        return index.take(places), np.repeat(images, num_pairs).take(places)

    @cached_property
    def bounds(self) -> Int[np.ndarray, " bound"]:
        """Give where the pairs of each image begin, and where the last ones end."""
        return np.append(self.first, self.num_pairs)

    def _places_in(
        self, num_rows: int
    ) -> tuple[Int[np.ndarray, " run"], UInt8[np.ndarray, " run"]]:
        """Give the byte in which each image of each row begins, and the bits in it before that."""
        starts = (np.arange(num_rows)[:, None] * self.num_pairs + self.first).reshape(-1)
        starts = np.append(starts, num_rows * self.num_pairs)
        return starts >> 3, (0xFF00 >> (starts & 7)).astype(np.uint8)

    def part(self, first: int, last: int) -> tuple[slice, "Pairs"]:
        """Give some consecutive images, and where their pairs are."""
        begin, end = (int(self.bounds[at]) for at in (first, last))
        return slice(begin, end), Pairs(
            images=self.images[first:last],
            first=self.first[first:last] - begin,
            num_certain=self.num_certain[first:last],
            num_pairs=end - begin,
        )


def bounds(counts: Int[np.ndarray, " image"]) -> Int[np.ndarray, " bound"]:
    """Turn pairs for each image into the places where each image's pairs begin."""
    return np.concatenate([[0], np.cumsum(counts)])
