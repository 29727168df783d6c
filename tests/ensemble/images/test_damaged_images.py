"""Damaged images of every format: each is an image or has a reason, and none ends the work."""

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from ensemble.errors import DecodeError
from ensemble.images.decode import decode

MAX_PIXELS = 20_000
SIDE = 24


def _kinds() -> Iterator[tuple[str, bytes]]:
    """One small image of each format, and of each mode that the format can hold."""
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (3, 3, 3), np.uint8)).resize((SIDE, SIDE))
    modes = {
        "AVIF": ("RGB", "RGBA"),
        "BMP": ("1", "L", "P", "RGB"),
        "GIF": ("L", "P"),
        "JPEG": ("CMYK", "L", "RGB"),
        "PNG": ("1", "I;16", "L", "LA", "P", "RGB", "RGBA"),
        "PPM": ("1", "F", "I", "L", "RGB"),
        "TIFF": ("1", "CMYK", "F", "I", "I;16", "L", "P", "RGB", "RGBA"),
        "WEBP": ("RGB", "RGBA"),
    }
    for kind, names in modes.items():
        for mode in names:
            image = (
                smooth.convert("L").convert("I").convert(mode)
                if "I" in mode
                else smooth.convert(mode)
            )
            if mode == "F":
                image = image.point(lambda value: value / 255)
            stream = io.BytesIO()
            image.save(stream, kind)
            yield f"{kind} {mode}", stream.getvalue()
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        stream = io.BytesIO()
        smooth.save(stream, "TIFF", compression=compression)
        yield f"TIFF {compression}", stream.getvalue()
    stream = io.BytesIO()
    smooth.save(stream, "GIF", save_all=True, append_images=[smooth.rotate(90)])
    yield "GIF of two frames", stream.getvalue()


KINDS = dict(_kinds())
FORMATS = sorted({name.split()[0] for name in KINDS})


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Damage a file once or a few times: bits, bytes, numbers, pieces that are cut, doubled or zeroed."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        if not data:
            break
        # Half of the faults lie in the header, where they say most.
        end = len(data) if rng.random() < 0.5 else min(len(data), 80)
        place, length = int(rng.integers(end)), int(rng.integers(1, 9))
        fault = rng.integers(7)
        if fault == 0:
            data[place] ^= 1 << int(rng.integers(8))
        elif fault == 1:
            data[place] = int(rng.integers(256))
        elif fault == 2:
            data[place : place + length] = bytes(length)
        elif fault == 3:
            data[place : place + 4] = rng.choice([b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\1"])
        elif fault == 4:
            del data[place:]
        elif fault == 5:
            del data[place : place + length]
        else:
            data[place:place] = data[place : place + length]
    return bytes(data)


def check(name: str, count: int) -> tuple[int, int]:
    """Decode so many damaged files of a format; return how many are images, and how many are not."""
    rng = np.random.default_rng(len(name))
    kinds = [content for kind, content in KINDS.items() if kind.startswith(f"{name} ")]
    images = 0
    for number in range(count):
        content = damaged(kinds[number % len(kinds)], rng)
        outcomes = []
        for _ in range(2):
            try:
                pixels = decode(io.BytesIO(content), MAX_PIXELS)
            except DecodeError as error:
                outcomes.append(str(error))
            else:
                assert pixels.dtype == np.uint8
                assert pixels.ndim == 3
                assert pixels.shape[2] == 3
                assert 0 < pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS
                outcomes.append(pixels.tobytes())
        assert outcomes[0]
        assert outcomes[0] == outcomes[1]
        images += isinstance(outcomes[0], bytes)
    return images, count - images


@pytest.mark.parametrize("name", sorted(KINDS))
def test_sound_image_of_every_format_and_mode_is_decoded(name: str) -> None:
    assert decode(io.BytesIO(KINDS[name]), MAX_PIXELS).shape == (SIDE, SIDE, 3)


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_image_is_an_image_or_has_a_reason_and_the_same_each_time(name: str) -> None:
    images, others = check(name, 150)
    assert images
    assert others


@pytest.mark.nightly
@pytest.mark.parametrize("name", FORMATS)
def test_ten_thousand_damaged_images_of_a_format_raise_nothing_else(name: str) -> None:
    check(name, 10_000)
