"""Decode one image with Pillow, and refuse a file whose header asks for too many pixels."""

import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL
from jaxtyping import UInt8
from PIL import Image

from ensemble.errors import DecodeError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})

# Part of a source's identity. EXIF rotation is not applied, as in torchvision's ImageFolder.
DECODER = f"pillow-{PIL.__version__}"

_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def decode(file: Path | BytesIO, max_pixels: int) -> UInt8[np.ndarray, "height width 3"]:
    """Decode an image to RGB.

    Args:
        file: Path of the encoded image, or its bytes.
        max_pixels: Largest height times width that is decoded.

    Raises:
        DecodeError: The image cannot be decoded, or its header says more than `max_pixels`.
    """
    try:
        with warnings.catch_warnings():
            # Odd metadata is no reason to leave an image out; a decompression bomb is.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return _decode(file, max_pixels)
    except (OSError, SyntaxError, ValueError, *_BOMBS) as error:
        raise DecodeError(f"{type(error).__name__}: {error}") from error


def _decode(file: Path | BytesIO, max_pixels: int) -> UInt8[np.ndarray, "height width 3"]:
    with Image.open(file) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise DecodeError(f"{width} x {height} pixels, over max_pixels = {max_pixels}")
        return np.asarray(image.convert("RGB"))
