"""One encoded image to pixels, by Pillow: the decoder that refuses what is forged."""

import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL
from jaxtyping import UInt8
from PIL import Image

from ensemble.errors import DecodeError

# EXIF rotation is not applied, as in torchvision's ImageFolder. Part of a source's identity.
DECODER = f"pillow-{PIL.__version__}"

_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def decode(file: Path | BytesIO, max_pixels: int) -> UInt8[np.ndarray, "height width 3"]:
    """Decode an image to RGB.

    Raises:
        DecodeError: It cannot be decoded, or its header says more pixels than that.
    """
    try:
        with warnings.catch_warnings():
            # Oddities of metadata are no reason to leave an image out; a bomb is.
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


SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
