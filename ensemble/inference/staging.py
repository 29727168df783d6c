"""Images and indices on a device, so that on a GPU nothing waits for a copy but what needs it.

A plain copy to a GPU holds the process up until it is done, and pageable memory is copied twice. Here
pixels are stacked in pinned memory and copied on a stream of their own: while one batch is computed,
the process stacks the next one, and its copy runs beside the kernels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import UInt8

Index = slice | torch.Tensor


class Staging:
    """Brings images of one size to a device.

    Pinned buffers are torch's own: its cache gives one away again only when the copies out of it are
    done.

    Args:
        device: Where they go; on a CPU they are stacked, and that is all.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copies: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def stack(
        self, images: Sequence[UInt8[np.ndarray, "height width 3"]]
    ) -> UInt8[torch.Tensor, "image height width 3"]:
        """One tensor of some images; whatever the current stream is given next waits for it."""
        if self._copies is None:
            return torch.from_numpy(np.stack(images))
        shape = (len(images), *images[0].shape)
        pinned = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        np.stack(images, out=pinned.numpy())
        with torch.cuda.stream(self._copies):
            pixels = pinned.to(self._device, non_blocking=True)
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._copies)
        # Its memory belongs to the copies' stream, which must not have it back before it was read.
        pixels.record_stream(current)
        return pixels


def index_of(rows: Sequence[int], device: torch.device) -> Index:
    """Rows as something to index a tensor with: a slice where they follow each other.

    Args:
        rows: Not empty.
        device: Where the tensor is.
    """
    if list(rows) == list(range(rows[0], rows[0] + len(rows))):
        return slice(rows[0], rows[0] + len(rows))
    index = torch.tensor(rows)
    return index.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else index
