"""Arrays that grow to the right, of which no part is in memory twice while they are put together."""

from collections.abc import Sequence
from functools import partial
from mmap import mmap

import numpy as np
from jaxtyping import Shaped

from ensemble.outranking.side_by_side import side_by_side

_CHUNK_BYTES = 2 << 20


class GrowingRows:
    """Rows of equal length to which blocks are appended.

    They lie in chunks of memory of the system's own, which goes back to it when a chunk has been copied:
    an allocator would keep it.

    Args:
        num_rows: Number of rows.
        dtype: Type of the numbers.
        shape: Shape of each item of a row; a number without one.
    """

    def __init__(self, num_rows: int, dtype: type[np.generic], shape: Sequence[int] = ()) -> None:
        self._num_rows, self._dtype, self._shape = num_rows, np.dtype(dtype), tuple(shape)
        self._item_bytes = num_rows * self._dtype.itemsize * int(np.prod(self._shape))
        self._capacity = -(-_CHUNK_BYTES // self._item_bytes)
        self._chunks: dict[int, Shaped[np.ndarray, "row item *shape"]] = {}  # by first item
        self._size = 0

    def append(self, block: Shaped[np.ndarray, "row item *shape"]) -> None:
        """Copy a block behind what is there."""
        first = 0
        while first < block.shape[1]:
            used = self._size % self._capacity
            if not used:
                self._chunks[self._size] = self._chunk()
            count = min(self._capacity - used, block.shape[1] - first)
            self._chunks[self._size - used][:, used : used + count] = block[
                :, first : first + count
            ]
            self._size += count
            first += count

    def finish(self, threads: int = 1) -> Shaped[np.ndarray, "row item *shape"]:
        """Give everything as one array, copied by so many threads, and hold nothing more."""
        whole = np.empty((self._num_rows, self._size, *self._shape), self._dtype)

        def move(first: int) -> None:
            chunk = self._chunks.pop(first)
            count = min(self._capacity, self._size - first)
            whole[:, first : first + count] = chunk[:, :count]

        side_by_side([partial(move, first) for first in sorted(self._chunks)], threads)
        self._size = 0
        return whole

    def _chunk(self) -> Shaped[np.ndarray, "row item *shape"]:
        memory = mmap(-1, self._capacity * self._item_bytes)
        shape = (self._num_rows, self._capacity, *self._shape)
        return np.frombuffer(memory, self._dtype).reshape(shape)
