"""Memory that a process of ours keeps between batches.

A network on a CPU allocates its activations anew in every batch. What is larger than a threshold, the C library takes
from the system and gives back at once, so that each batch touches new pages: with a batch of 64 small images that takes
as long as the network itself.
"""

import ctypes
import sys

# Options of mallopt in glibc; other C libraries have other ones, or none.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_ONE_PIECE_BYTES, _UNUSED_BYTES = 1 << 30, 2_000_000_000


def keep_freed_memory() -> bool:
    """Let this process keep up to 2 GB of freed memory for its next batch, where the C library is glibc.

    It is for processes that do nothing but predict or train; what stands in a notebook is its owner's.

    Returns:
        Whether the C library does so.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return bool(
        library.mallopt(_MMAP_THRESHOLD, _ONE_PIECE_BYTES)
        and library.mallopt(_TRIM_THRESHOLD, _UNUSED_BYTES)
    )
