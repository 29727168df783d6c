"""A shard's images on a device, resized once per scale for every member that asks."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float

from ensemble.images.shard import ImageShard
from ensemble.inference.staging import Staging
from ensemble.inference.transforms import Scale, resize_pixels
from ensemble.members.settings import Interpolation

_KEPT_BYTES = 512 << 20

# A CPU resizes photographs almost twice as fast if what it works on stays in its cache.
_TOGETHER_BYTES = 4 << 20


class ResizedShard:
    """Images by row and scale; what was asked for once is kept while it fits.

    Images of one decoded size are resized together, so that a GPU is not given one image after another.

    Args:
        shard: Decoded images.
        device: Where to resize.
        kept_bytes: Bound of what is kept. Nothing is dropped for something newer: members ask in
            the same order, and the oldest would always go just before it is asked for again.
    """

    def __init__(
        self, shard: ImageShard, device: torch.device, kept_bytes: int = _KEPT_BYTES
    ) -> None:
        self.shard = shard
        self.device = device
        self._staging = Staging(device)
        self._room = kept_bytes
        self._kept: dict[tuple[object, ...], torch.Tensor] = {}

    def is_of(self, shard: ImageShard) -> bool:
        """Whether a shard, in a process that gets it anew for every call, has the same images."""
        return np.array_equal(self.shard.image_ids, shard.image_ids)

    def by_shape(self, rows: Sequence[int]) -> list[tuple[int, ...]]:
        """Rows put together by the size of their images, in the order of their first."""
        found: dict[tuple[int, int], list[int]] = {}
        for row in rows:
            found.setdefault(self._images[row].shape[:2], []).append(row)
        return [tuple(same) for same in found.values()]

    def sides(self, row: int) -> tuple[int, int]:
        """Height and width of an image as it was decoded, in pixels."""
        height, width = self._images[row].shape[:2]
        return height, width

    def at(
        self, rows: tuple[int, ...], scale: Scale, interpolation: Interpolation
    ) -> Float[torch.Tensor, "image 3 _ _"]:
        """Resized images of one decoded size, in [0, 1]; not to be written into."""
        key = (rows, scale, interpolation)
        if key not in self._kept:
            resized = self._resize([self._images[row] for row in rows], scale, interpolation)
            if resized.nbytes > self._room:
                return resized
            self._room -= resized.nbytes
            self._kept[key] = resized
        return self._kept[key]

    def _resize(
        self, images: Sequence[np.ndarray], scale: Scale, interpolation: Interpolation
    ) -> Float[torch.Tensor, "image 3 _ _"]:
        step = len(images)
        if self.device.type == "cpu":
            step = max(1, _TOGETHER_BYTES // images[0].nbytes)
        parts = [
            resize_pixels(
                self._staging.stack(images[start : start + step]).permute(0, 3, 1, 2),
                scale,
                interpolation,
            )
            for start in range(0, len(images), step)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    @cached_property
    def _images(self) -> list[np.ndarray]:
        return list(self.shard.images())
