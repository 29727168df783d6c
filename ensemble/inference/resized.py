"""The images of a shard on a device, resized once per scale for all members together."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float

from ensemble.images.shard import ImageShard
from ensemble.inference.staging import Staging
from ensemble.inference.transforms import Scale, resize_pixels
from ensemble.members.settings import Interpolation

_CACHE_BYTES = 512 << 20

# A CPU resizes photographs almost twice as fast if one batch of them stays in its cache.
_BATCH_BYTES = 4 << 20


class ResizedShard:
    """The resized images of a shard, by rows and scale, in a bounded cache.

    Images of one decoded size are resized together, so that a GPU is not given one image after another.

    Args:
        shard: Decoded images.
        device: Device to resize on.
        cache_bytes: Bound of the cache. A full cache drops nothing: all members read in the same
            order, and the oldest entry would always go just before it is read again.
    """

    def __init__(
        self, shard: ImageShard, device: torch.device, cache_bytes: int = _CACHE_BYTES
    ) -> None:
        self.shard = shard
        self.device = device
        self._staging = Staging(device)
        self._free_bytes = cache_bytes
        self._cache: dict[tuple[object, ...], torch.Tensor] = {}

    def is_of(self, shard: ImageShard) -> bool:
        """Tell whether a shard has the same images; a process gets a new copy with every call."""
        return np.array_equal(self.shard.image_ids, shard.image_ids)

    def by_shape(self, rows: Sequence[int]) -> list[tuple[int, ...]]:
        """Group rows by the decoded size of their images, in the order of each group's first row."""
        groups: dict[tuple[int, int], list[int]] = {}
        for row in rows:
            groups.setdefault(self._images[row].shape[:2], []).append(row)
        return [tuple(group) for group in groups.values()]

    def sides(self, row: int) -> tuple[int, int]:
        """Return the height and width of a decoded image, in pixels."""
        height, width = self._images[row].shape[:2]
        return height, width

    def at(
        self, rows: tuple[int, ...], scale: Scale, interpolation: Interpolation
    ) -> Float[torch.Tensor, "image 3 _ _"]:
        """Return resized images in [0, 1], which must not be written into.

        Args:
            rows: Rows of images of one decoded size.
            scale: Scale to resize to.
            interpolation: Interpolation to resize with.
        """
        key = (rows, scale, interpolation)
        if key not in self._cache:
            resized = self._resize([self._images[row] for row in rows], scale, interpolation)
            if resized.nbytes > self._free_bytes:
                return resized
            self._free_bytes -= resized.nbytes
            self._cache[key] = resized
        return self._cache[key]

    def _resize(
        self, images: Sequence[np.ndarray], scale: Scale, interpolation: Interpolation
    ) -> Float[torch.Tensor, "image 3 _ _"]:
        step = len(images)
        if self.device.type == "cpu":
            step = max(1, _BATCH_BYTES // images[0].nbytes)
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
