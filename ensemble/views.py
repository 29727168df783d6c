"""Test-time views and the path from pixels to a network's input. The one place where images are resized."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from ensemble.images.shard import ImageShard
from ensemble.members import Interpolation, Preprocessing, View

Batch = Float[torch.Tensor, "image 3 size size"]


def to_input(
    shards: Sequence[ImageShard],
    size: int,
    resize: int | None = None,
    interpolation: Interpolation = "bilinear",
) -> Batch:
    """All images of some shards in [0, 1] at the input's size, in order.

    Args:
        shards: Decoded images.
        size: Side of the square input, in pixels.
        resize: Short side to resize to (antialiased) before the centre is cut out; none stretches
            the image to the square.
        interpolation: How to resize.
    """
    parts = [part for shard in shards for part in _resize_shard(shard, size, resize, interpolation)]
    return torch.cat(parts) if parts else torch.empty(0, 3, size, size)


def _resize_shard(
    shard: ImageShard, size: int, resize: int | None, interpolation: Interpolation
) -> Iterator[Batch]:
    images = list(shard.images())
    if len({image.shape for image in images}) == 1:
        yield _resize(np.stack(images), size, resize, interpolation)
    else:
        for image in images:
            yield _resize(image[None], size, resize, interpolation)


def _resize(
    images: UInt8[np.ndarray, "image height width 3"],
    size: int,
    resize: int | None,
    interpolation: Interpolation,
) -> Batch:
    # A copy: arrays out of an object store are read-only, which torch cannot express.
    pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    resized: torch.Tensor = transforms.resize(
        pixels.to(torch.float32) / 255,
        [size, size] if resize is None else [resize],
        InterpolationMode(interpolation),
        antialias=True,
    ).clamp(0, 1)  # bicubic overshoots
    return resized if resize is None else transforms.center_crop(resized, [size, size])


def normalise(images: Batch, preprocessing: Preprocessing) -> Batch:
    """Subtract the mean and divide by the standard deviation of each channel."""
    normalised: torch.Tensor = transforms.normalize(
        images, list(preprocessing.mean), list(preprocessing.std)
    )
    return normalised


def apply_view(images: Batch, view: View) -> Batch:
    """Images as one view shows them; what comes in from outside is black."""
    if view == View():
        return images
    shown: torch.Tensor = transforms.affine(
        images,
        angle=0.0,
        translate=[float(view.right), float(view.down)],
        scale=view.scale,
        shear=[0.0, 0.0],
        interpolation=InterpolationMode.BILINEAR,
    )
    return shown


def batches(images: Batch, batch_images: int) -> Iterator[tuple[Batch, int]]:
    """Cut images into batches of one size; the last is filled up, and its true count told.

    One size for all, because a kernel chosen by the batch's size may round differently, and
    predictions must not depend on where a shard ends.
    """
    for start in range(0, len(images), batch_images):
        batch = images[start : start + batch_images]
        count = len(batch)
        if count < batch_images:
            filler = batch.new_zeros(batch_images - count, *batch.shape[1:])
            batch = torch.cat([batch, filler])
        yield batch, count
