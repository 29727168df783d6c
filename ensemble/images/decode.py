"""Decode one image with Pillow, and refuse a file whose header asks for too many pixels.

Every picture comes out as 8-bit RGB:

- Integers of 16 bits keep their order: the full range 0 to 65,535 becomes 0 to 255, each value divided by
  257. A TIFF that says how many bits its values have (as 12) is divided by the range of these.
- Integers of 32 bits within 0 to 65,535 are taken as 16 bits.
- A picture of integers none of which is over 255 is taken as it is: 8 bits were saved as more.
- Floating-point numbers of 0 to 1 are multiplied by 255.
- Anything else cannot be decoded; nor can a picture whose values differ but would all become one shade, or
  one of 16 bits that would be all but black or white, as values of 12 bits are in a file that does not say so.

The orientation that EXIF notes is not applied, as in torchvision's ImageFolder and timm.
"""

import math
import stat
import warnings
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import PIL
from jaxtyping import UInt8
from PIL import Image

from ensemble.errors import DataError, DecodeError

SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)

# The formats of the suffixes and no others: of a name ending in .png Pillow would try 43, and hand
# PostScript to Ghostscript.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

# Formats whose values always have 8 bits.
_EIGHT_BITS = frozenset({".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".webp"})

# No image file is larger: `max_pixels` uncompressed, with four channels of 16 bits, and its header.
_BYTES_PER_PIXEL, _HEADER_BYTES = 8, 1 << 20

_SIXTEEN_BITS = 65535.0

# Shades up to which a picture is all but black, and from which on it is all but white.
_BLACK, _WHITE = 31, 224

_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0


def decoder(names: Iterable[str] | None = None) -> str:
    """Name what decides which pixels a file becomes; part of a source's identity.

    Args:
        names: Names of the files; unknown if not given. How deeper values become 8 bits is left out where
            no file can hold them.
    """
    suffixes = None if names is None else {PurePath(name).suffix.lower() for name in names}
    if suffixes is not None and suffixes <= _EIGHT_BITS:
        return f"pillow-{PIL.__version__}"
    return f"pillow-{PIL.__version__} depth-2"


def max_file_bytes(max_pixels: int) -> int:
    """Give the size beyond which no file is read, in bytes."""
    return max_pixels * _BYTES_PER_PIXEL + _HEADER_BYTES


def decode(
    file: Path | BytesIO, max_pixels: int, short_side: int | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """Decode an image to RGB.

    Args:
        file: Path of the encoded image, or its bytes.
        max_pixels: Largest height times width that is decoded.
        short_side: Short side that the image will be resized to, if it is larger. A JPEG is then decoded at 1/2, 1/4
            or 1/8 of its size, as long as twice that short side remains: of a photograph of 12 megapixels this
            takes a fraction of the time. In its full size if None.

    Raises:
        DecodeError: The image cannot be decoded, or its header says more than `max_pixels`.
        OSError: The file cannot be read now, which says nothing about the image in it.
    """
    if isinstance(file, Path):
        file = BytesIO(_read(file, max_pixels))
    try:
        with warnings.catch_warnings():
            # Odd metadata is no reason to leave an image out; a decompression bomb is.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = _load(file, max_pixels, short_side)
    except DecodeError:
        raise
    # Decoders of damaged files raise whatever they come upon: RuntimeError, AttributeError, MemoryError, …
    # The bytes are all there, so that nothing but the image can be at fault.
    except Exception as error:
        raise DecodeError(f"{type(error).__name__}: {error}") from error
    return to_rgb(picture)


def to_rgb(image: Image.Image) -> UInt8[np.ndarray, "height width 3"]:
    """Bring an opened picture of any mode to 8-bit RGB.

    Raises:
        DecodeError: Its values lie outside the range that is known, or would become one shade.
    """
    if _is_deep(image):
        return np.repeat(_scale(image)[:, :, None], 3, axis=2)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _is_deep(image: Image.Image) -> bool:
    return image.mode in {"F", "I"} or image.mode.startswith("I;16")


def _read(path: Path, max_pixels: int) -> bytes:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise DecodeError("it is a folder, a pipe or a device, and no file")
    if status.st_size > max_file_bytes(max_pixels):
        raise DecodeError(
            f"{status.st_size} bytes, over the {max_file_bytes(max_pixels)} that a file of "
            f"max_pixels = {max_pixels} can have"
        )
    return path.read_bytes()


def unreadable(place: str, reason: str) -> DataError:
    """Make the error for an image that cannot be read now: it ends the work, and is not remembered.

    Args:
        place: Path or URL of the image.
        reason: Why it cannot be read.
    """
    return DataError(
        f"cannot read the image {place!r}: {reason}. It is not counted as damaged, and nothing is kept of "
        "the images beside it in its shard; mend the cause and run the same command again."
    )


def _load(file: BytesIO, max_pixels: int, short_side: int | None) -> Image.Image:
    if not file.getbuffer().nbytes:
        raise DecodeError("the file is empty")
    try:
        image = Image.open(file, formats=_FORMATS)
    except PIL.UnidentifiedImageError as error:
        # Pillow names the buffer in memory, which says nothing and differs each time.
        raise DecodeError(
            f"UnidentifiedImageError: cannot identify {len(file.getbuffer())} bytes as "
            f"{', '.join(_FORMATS)}"
        ) from error
    width, height = image.size
    if width * height > max_pixels:
        raise DecodeError(f"{width} x {height} pixels, over max_pixels = {max_pixels}")
    if short_side is not None and (factor := 2 * short_side / min(image.size)) < 1:
        image.draft(None, (math.ceil(width * factor), math.ceil(height * factor)))
    image.load()
    # To convert what is RGB already would copy it.
    return image if _is_deep(image) or image.mode == "RGB" else image.convert("RGB")


def _scale(image: Image.Image) -> UInt8[np.ndarray, "height width"]:
    values = np.asarray(image)
    low, high = values.min(), values.max()
    limit = _limit(image, float(low), float(high))
    shades: np.ndarray = np.rint(values * (255 / limit)).astype(np.uint8)
    darkest, lightest = int(shades.min()), int(shades.max())
    would = None
    if high > low and lightest - darkest < 2:
        would = "all be one shade of 8 bits"
    elif high > low and limit == _SIXTEEN_BITS and (lightest <= _BLACK or darkest >= _WHITE):
        would = f"be the shades {darkest} to {lightest} of 255"
    if would is not None:
        raise DecodeError(
            f"its values of {low:g} to {high:g}, of {limit:g}, would {would}; save it with 8 bits, or over "
            "its full range"
        )
    return 255 - shades if _tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO else shades


def _limit(image: Image.Image, low: float, high: float) -> float:
    """Return the value that becomes 255.

    Raises:
        DecodeError: The values lie outside what their type says.
    """
    bits = _tag(image, _BITS_PER_SAMPLE)
    if image.mode == "F":
        limit, expected = 1.0, "0 to 1, as floating-point pictures have"
    elif 0 <= high <= 255:
        limit, expected = 255.0, "0 to 65535"
    elif isinstance(bits, tuple) and 8 < bits[0] < 16:
        limit = float((1 << bits[0]) - 1)
        expected = f"0 to {limit:g}"
    else:
        limit, expected = _SIXTEEN_BITS, "0 to 65535"
    # False for NaN, too.
    if not (low >= 0 and high <= limit):
        raise DecodeError(f"its values lie in {low:g} to {high:g}; expected {expected}")
    return limit


def _tag(image: Image.Image, number: int) -> Any:
    tags = getattr(image, "tag_v2", None)
    return None if tags is None else tags.get(number)
