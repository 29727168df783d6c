"""A shard: images that are decoded together and handed to every member as one value."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Shaped, UInt8

from ensemble.errors import ShapeError

# What the system says of a file, and S3 of an object: an error with a number, or that it is not there.
_UNREAD = re.compile(r"\w*Error: \[Errno \d+\] |.*: no such object$")


@dataclass(frozen=True)
class BadImage:
    """An image that could not be decoded, which no member predicts.

    Attributes:
        image_id: Id of the image.
        reason: Why it could not be decoded.
    """

    image_id: str
    reason: str

    @property
    def is_unread(self) -> bool:
        """Tell whether the file could not be read, which says nothing of the image; older tables hold such reasons."""
        return _UNREAD.match(self.reason) is not None


@dataclass(frozen=True)
class ShardSpec:
    """The images that one shard is to hold.

    Attributes:
        image_ids: Ids of the images, in order.
    """

    image_ids: tuple[str, ...]


@dataclass(frozen=True)
class ImageShard:
    """Decoded images, packed one after the other because their sizes may differ.

    Attributes:
        image_ids: Ids of the images that could be decoded.
        pixels: RGB values of all images, each `height x width x 3` in row order.
        heights: Height of each image, in pixels.
        widths: Width of each image, in pixels.
        bad: Images of the spec that could not be decoded.

    Raises:
        ShapeError: The pixels are more or fewer than the heights and widths say.
    """

    image_ids: Shaped[np.ndarray, "image"]
    pixels: UInt8[np.ndarray, "byte"]
    heights: Int[np.ndarray, "image"]
    widths: Int[np.ndarray, "image"]
    bad: tuple[BadImage, ...] = ()

    def __post_init__(self) -> None:
        expected = int((self.heights * self.widths).sum()) * 3
        if len(self.pixels) != expected or len(self.heights) != len(self.image_ids):
            raise ShapeError(
                f"a shard of {len(self.image_ids)} images needs {expected} bytes of pixels, "
                f"found {len(self.pixels)}."
            )

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def size_bytes(self) -> int:
        """Size of the pixels, in bytes."""
        return self.pixels.nbytes

    def images(self) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        """Iterate over the images, each an array that shares the memory of `pixels`."""
        start = 0
        for height, width in zip(self.heights, self.widths, strict=True):
            stop = start + int(height) * int(width) * 3
            yield self.pixels[start:stop].reshape(int(height), int(width), 3)
            start = stop

    def without(self, bad: Sequence[BadImage]) -> "ImageShard":
        """Move images to those that no member predicts."""
        if not bad:
            return self
        ids = {image.image_id for image in bad}
        kept = [
            (str(image_id), image)
            for image_id, image in zip(self.image_ids, self.images(), strict=True)
            if str(image_id) not in ids
        ]
        image_ids, images = [image_id for image_id, _ in kept], [image for _, image in kept]
        return ImageShard.pack(image_ids, images, (*self.bad, *bad))

    @classmethod
    def pack(
        cls, image_ids: Sequence[str], images: Sequence[np.ndarray], bad: Sequence[BadImage] = ()
    ) -> "ImageShard":
        """Pack decoded RGB images, each uint8 `[height, width, 3]`, into one shard."""
        flat = [image.reshape(-1) for image in images]
        return cls(
            image_ids=np.array(image_ids, dtype=np.str_),
            pixels=np.concatenate(flat) if flat else np.empty(0, np.uint8),
            heights=np.array([image.shape[0] for image in images], dtype=np.int64),
            widths=np.array([image.shape[1] for image in images], dtype=np.int64),
            bad=tuple(bad),
        )


def plan_shards(image_ids: Sequence[str], shard_images: int) -> tuple[ShardSpec, ...]:
    """Cut ids into shards of at most `shard_images`, in their order."""
    return tuple(
        ShardSpec(tuple(str(image_id) for image_id in image_ids[start : start + shard_images]))
        for start in range(0, len(image_ids), shard_images)
    )
