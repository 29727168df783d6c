"""Arrays that grow to the right, of which no part is in memory twice while they are put together."""

from collections.abc import Sequence
from mmap import mmap

import numpy as np
from jaxtyping import Shaped

_CHUNK_BYTES = 8 << 20


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
        self._chunks: list[Shaped[np.ndarray, "row item *shape"]] = []
        self._size = 0

    def append(self, block: Shaped[np.ndarray, "row item *shape"]) -> None:
        """Copy a block behind what is there."""
        first = 0
        while first < block.shape[1]:
            used = self._size % self._capacity
            if not used:
                self._chunks.append(self._chunk())
            count = min(self._capacity - used, block.shape[1] - first)
            self._chunks[-1][:, used : used + count] = block[:, first : first + count]
            self._size += count
            first += count

    def finish(self) -> Shaped[np.ndarray, "row item *shape"]:
        """Give everything as one array, and hold nothing more."""
        whole = np.empty((self._num_rows, self._size, *self._shape), self._dtype)
        first = 0
        while self._chunks:
            chunk = self._chunks.pop(0)
            count = min(self._capacity, self._size - first)
            whole[:, first : first + count] = chunk[:, :count]
            first += count
        self._size = 0
        return whole

    def _chunk(self) -> Shaped[np.ndarray, "row item *shape"]:
        memory = mmap(-1, self._capacity * self._item_bytes)
        shape = (self._num_rows, self._capacity, *self._shape)
        return np.frombuffer(memory, self._dtype).reshape(shape)
