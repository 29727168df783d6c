"""From pixels to a network's input: resize, cut out a view, normalise. All resizing happens here."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from ensemble.images.shard import ImageShard
from ensemble.inference.staging import Index
from ensemble.members.settings import Interpolation, Preprocessing
from ensemble.views.settings import Crop, Square

Batch = Float[torch.Tensor, "image 3 size size"]
Images = Float[torch.Tensor, "image 3 _ _"]
Scale = tuple[int] | tuple[int, int]


def to_input(
    shards: Sequence[ImageShard],
    size: int,
    resize: int | None = None,
    interpolation: Interpolation = "bilinear",
) -> Batch:
    """Resize all images of some shards to the size of the input, in order, with pixels in [0, 1].

    Args:
        shards: Decoded images.
        size: Side of the square input, in pixels.
        resize: Short side to resize to (antialiased) before the centre is cut out; None stretches
            the image to the square.
        interpolation: Interpolation to resize with.
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
    resized = resize_pixels(pixels, square_scale(size, resize), interpolation)
    return resized if resize is None else transforms.center_crop(resized, [size, size])


def square_scale(size: int, resize: int | None) -> Scale:
    """Return the scale of a member's preprocessing: the square that it stretches to, or a short side."""
    return (size, size) if resize is None else (resize,)


def resize_pixels(
    pixels: UInt8[torch.Tensor, "image 3 _ _"], scale: Scale, interpolation: Interpolation
) -> Images:
    """Resize images, antialiased, to pixels in [0, 1] on the same device.

    Args:
        pixels: Images of equal size.
        scale: Short side to resize to with the aspect ratio kept; or height and width to stretch to.
        interpolation: Interpolation to resize with.
    """
    # Always in the contiguous layout, because the channels-last layout rounds differently.
    unit = pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    return resize_unit(unit, scale, interpolation)


def resize_unit(images: Images, scale: Scale, interpolation: Interpolation) -> Images:
    """Resize images with pixels in [0, 1], as `resize_pixels` does."""
    resized: torch.Tensor = transforms.resize(
        images, list(scale), InterpolationMode(interpolation), antialias=True
    )
    return resized.clamp(0, 1)  # bicubic overshoots


def normalise_(images: Images, preprocessing: Preprocessing) -> Images:
    """Subtract the mean and divide by the standard deviation of each channel, in place."""
    normalised: torch.Tensor = transforms.normalize(
        images, list(preprocessing.mean), list(preprocessing.std), inplace=True
    )
    return normalised


def join_normalised(
    parts: Sequence[tuple[Index, Float[torch.Tensor, "_ 3 _ _"]]],
    batch_images: int,
    preprocessing: Preprocessing,
) -> Float[torch.Tensor, "batch 3 _ _"]:
    """Write normalised images to their places in a batch, and fill it up with black images.

    The result equals that of `normalise_` to the bit, without a second pass over the batch.

    Args:
        parts: Places in the batch, and the images for them, which are left as they are; together
            the parts fill the first places.
        batch_images: Number of images in the batch.
        preprocessing: Mean and standard deviation of each channel.
    """
    first = parts[0][1]
    mean, std = _channels(preprocessing, first.device)
    batch = first.new_empty(batch_images, *first.shape[1:])
    for places, images in parts:
        if isinstance(places, slice):
            torch.sub(images, mean, out=batch[places])
        else:
            batch[places] = images - mean
    batch[sum(len(images) for _, images in parts) :] = -mean
    return batch.div_(std)


@lru_cache(maxsize=64)
def _channels(
    preprocessing: Preprocessing, device: torch.device
) -> tuple[Float[torch.Tensor, "3 1 1"], Float[torch.Tensor, "3 1 1"]]:
    """Return mean and standard deviation on a device; cached, because a copy to a GPU blocks."""
    mean, std = (
        torch.tensor(x, dtype=torch.float32, device=device)
        for x in (preprocessing.mean, preprocessing.std)
    )
    return mean.view(3, 1, 1), std.view(3, 1, 1)


def show(images: Images, view: Square | Crop, preprocessing: Preprocessing) -> Batch:
    """Cut one view out of resized images, not yet normalised.

    Args:
        images: Images at the scale of the view.
        view: The view to cut out.
        preprocessing: Size of the square, and how a region is resized.
    """
    if isinstance(view, Crop):
        return _crop(images, view, preprocessing)
    return _square(images.flip(3) if view.flip else images, view, preprocessing.size)


def _square(images: Images, view: Square, size: int) -> Batch:
    centre: torch.Tensor = transforms.center_crop(images, [size, size])
    if not (view.right or view.down or view.scale != 1):
        return centre
    moved: torch.Tensor = transforms.affine(
        centre,
        angle=0.0,
        translate=[float(view.right), float(view.down)],
        scale=view.scale,
        shear=[0.0, 0.0],
        interpolation=InterpolationMode.BILINEAR,
    )
    return moved


def _crop(images: Images, view: Crop, preprocessing: Preprocessing) -> Batch:
    if view.along is not None:
        images = _cut(images, min(images.shape[2:]), view.along, view.along)
    if view.flip:
        images = images.flip(3)
    if not view.is_resized:
        return _cut(images, preprocessing.size, view.down, view.right)
    resized: torch.Tensor = transforms.resize(
        images,
        [preprocessing.size, preprocessing.size],
        InterpolationMode(preprocessing.interpolation),
        antialias=True,
    )
    return resized.clamp(0, 1)


def _cut(images: Images, side: int, down: float, right: float) -> Batch:
    top = round((images.shape[2] - side) * down)
    left = round((images.shape[3] - side) * right)
    return images[:, :, top : top + side, left : left + side]
