"""What a person has as an image, brought to pixels: a path, bytes, a PIL image, an array or a tensor."""

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ensemble.errors import DecodeError, ShapeError
from ensemble.images.decode import decode, to_rgb
from ensemble.images.settings import FolderConfig

# Sizes of several images may differ, so the axes have no names.
Pixels = UInt8[np.ndarray, "_ _ 3"]

# The same bound as for a folder of images.
_MAX_PIXELS: int = FolderConfig.model_fields["max_pixels"].default


def to_pixels(images: Any) -> list[Pixels]:
    """Bring one image or several to RGB pixels.

    Args:
        images: One image or any iterable of them. An image is a path, encoded bytes, a PIL image, an
            array uint8 `[height, width, 3]`, or a tensor uint8 `[3, height, width]`; an array
            `[image, height, width, 3]` or a tensor `[image, 3, height, width]` is several.

    Raises:
        DecodeError: A file or bytes cannot be decoded; the message says which.
        ShapeError: An array or tensor is not uint8 RGB, or a value is no image at all.
    """
    if isinstance(images, str | Path | bytes | Image.Image) or getattr(images, "ndim", 4) == 3:
        images = [images]
    if not isinstance(images, Iterable):
        raise ShapeError(_expected(0, type(images).__name__))
    return [_to_pixels(number, image) for number, image in enumerate(images)]


def _to_pixels(number: int, image: Any) -> Pixels:
    if isinstance(image, str | Path | bytes):
        try:
            return decode(BytesIO(image) if isinstance(image, bytes) else Path(image), _MAX_PIXELS)
        except (DecodeError, OSError) as error:
            name = f"{len(image)} bytes" if isinstance(image, bytes) else str(image)
            raise DecodeError(f"image {number} ({name}) cannot be decoded: {error}") from error
    if isinstance(image, Image.Image):
        try:
            return to_rgb(image)
        except DecodeError as error:
            raise DecodeError(f"image {number} cannot be shown in 8 bits: {error}") from error
    if not hasattr(image, "shape"):
        raise ShapeError(_expected(number, type(image).__name__))
    # A tensor has its channels first, as torchvision's own functions give it.
    is_tensor = not isinstance(image, np.ndarray) and hasattr(image, "permute")
    pixels = image.permute(1, 2, 0).cpu().numpy() if is_tensor and image.ndim == 3 else image
    pixels = np.asarray(pixels)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ShapeError(_expected(number, f"{image.dtype} {list(image.shape)}"))
    return pixels


def _expected(number: int, what: str) -> str:
    return (
        f"image {number} is {what}; expected a path, encoded bytes, a PIL image, an array uint8 "
        "[height, width, 3] in RGB, or a tensor uint8 [3, height, width]."
    )
