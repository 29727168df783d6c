"""Copy images and indices to a device; on a GPU, only the work that needs a copy waits for it.

A plain copy to a GPU blocks the process until it is done, and pageable memory is copied twice. Here
pixels are stacked in pinned memory and copied on a stream of their own: while one batch is computed,
the process stacks the next one, and its copy runs beside the kernels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import UInt8

Index = slice | torch.Tensor


class Staging:
    """Copies images of one size to a device.

    The pinned buffers come from torch's cache, which reuses one only when all copies out of it are
    done.

    Args:
        device: Device that the images are copied to; for a CPU they are only stacked.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copies: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def stack(
        self, images: Sequence[UInt8[np.ndarray, "height width 3"]]
    ) -> UInt8[torch.Tensor, "image height width 3"]:
        """Stack images into one tensor on the device; later work on the current stream waits for the copy."""
        if self._copies is None:
            return torch.from_numpy(np.stack(images))
        shape = (len(images), *images[0].shape)
        pinned = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        np.stack(images, out=pinned.numpy())
        return self.copy(pinned)

    def copy(self, pinned: torch.Tensor) -> torch.Tensor:
        """Copy pinned memory to the device; later work on the current stream waits for the copy."""
        if self._copies is None:
            return pinned
        with torch.cuda.stream(self._copies):
            pixels = pinned.to(self._device, non_blocking=True)
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._copies)
        # The memory belongs to the stream of copies, which must not reuse it before it was read.
        pixels.record_stream(current)
        return pixels


def index_of(rows: Sequence[int], device: torch.device) -> Index:
    """Make an index for a tensor from rows: a slice where the rows follow each other.

    Args:
        rows: One or more rows.
        device: Device of the tensor.
    """
    if list(rows) == list(range(rows[0], rows[0] + len(rows))):
        return slice(rows[0], rows[0] + len(rows))
    return to_device(torch.tensor(rows), device)


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a small tensor to a device; the host does not wait for a copy to a GPU."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
