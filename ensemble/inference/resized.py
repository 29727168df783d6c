"""The images of a shard on a device, resized once per scale for all members together."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float

from ensemble.images.shard import BadImage, ImageShard
from ensemble.inference.staging import Staging
from ensemble.inference.transforms import Scale, resize_pixels
from ensemble.members.settings import Interpolation, Preprocessing
from ensemble.views.settings import Square, View

_CACHE_BYTES = 512 << 20

# Pixels of one resized image: 200 MB as floating-point numbers. A strip of 1 x 4,000 pixels takes 95 bytes in a
# file, and at a short side of 256 it would have 262 million.
MAX_RESIZED_PIXELS = 1 << 24

# A CPU resizes photographs almost twice as fast if one batch of them stays in its cache.
_BATCH_BYTES = 4 << 20


def without_strips(
    shard: ImageShard, preprocessing: Preprocessing, views: Sequence[View] = ()
) -> ImageShard:
    """Move images to the bad ones that resizing would blow up over `MAX_RESIZED_PIXELS`.

    Args:
        shard: Decoded images.
        preprocessing: How a member resizes an image.
        views: Views that are cut out; the whole preprocessed image if none.
    """
    sides = [_short_side(view, preprocessing) for view in views or (Square(),)]
    short_side = max((side for side in sides if side is not None), default=None)
    if short_side is None or not len(shard):
        return shard
    strips = list[BadImage]()
    sides_of = zip(shard.heights.tolist(), shard.widths.tolist(), strict=True)
    for row, (height, width) in enumerate(sides_of):
        pixels = short_side**2 * (max(height, width) / min(height, width))
        if pixels > MAX_RESIZED_PIXELS:
            reason = (
                f"{width} x {height} pixels, which a short side of {short_side} makes {pixels:.0f}, over "
                f"{MAX_RESIZED_PIXELS}; cut it, or stretch images to a square (resize: null)"
            )
            strips.append(BadImage(str(shard.image_ids[row]), reason))
    return shard.without(strips)


def _short_side(view: View, preprocessing: Preprocessing) -> int | None:
    """Return the short side that a view resizes to; none if it stretches the image to a square."""
    return preprocessing.resize if isinstance(view, Square) else view.short_side


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
