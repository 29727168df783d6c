import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ensemble.errors import DecodeError
from ensemble.images.decode import decode, decoder, to_rgb

RAMP = np.linspace(0, 65535, 4096).reshape(64, 64)
TIFF_PHOTOMETRIC, TIFF_BITS = 262, 258


def encoded(values: np.ndarray, kind: str, **options: object) -> io.BytesIO:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, kind, **options)
    return stream


def shades(file: io.BytesIO) -> np.ndarray:
    """Decode a grey picture, whose three channels are equal."""
    pixels = decode(file, 10**6)
    assert (pixels == pixels[:, :, :1]).all()
    return pixels[:, :, 0]


def pgm(values: np.ndarray, largest: int) -> io.BytesIO:
    header = f"P5 {values.shape[1]} {values.shape[0]} {largest}\n".encode()
    return io.BytesIO(header + values.astype(">u2").tobytes())


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_divided_by_257(kind: str) -> None:
    values = RAMP.astype(np.uint16)
    found = shades(pgm(values, 65535) if kind == "PPM" else encoded(values, kind))
    np.testing.assert_array_equal(found, np.rint(values / 257).astype(np.uint8))
    assert (found.min(), found.max()) == (0, 255)


@given(st.lists(st.integers(0, 65535), min_size=2, max_size=64))
def test_sixteen_bits_keep_their_order(values: list[int]) -> None:
    picture = np.array([[*values, 0, 65535]], np.uint16)
    found = shades(encoded(picture, "PNG"))[0].astype(int)
    order = np.argsort(picture[0], kind="stable")
    assert (np.diff(found[order]) >= 0).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_8_bits_that_were_saved_as_more_are_taken_as_they_are(kind: str) -> None:
    values = np.rint(RAMP / 257)
    np.testing.assert_array_equal(shades(encoded(values.astype(np.uint16), kind)), values)


def test_integers_of_32_bits_within_16_are_divided_by_257() -> None:
    values = RAMP.astype(np.int32)
    small = values // 257
    np.testing.assert_array_equal(shades(encoded(small, "TIFF")), small)
    np.testing.assert_array_equal(
        shades(encoded(values, "TIFF")), np.rint(values / 257).astype(np.uint8)
    )


def test_floats_of_0_to_1_are_multiplied_by_255() -> None:
    values = (RAMP / 65535).astype(np.float32)
    found = shades(encoded(values, "TIFF"))
    np.testing.assert_array_equal(found, np.rint(values * 255).astype(np.uint8))


def test_a_tiff_that_says_how_many_bits_it_has_is_divided_by_their_range() -> None:
    # Pillow writes no TIFF of 12 bits: two values in three bytes.
    values = np.array([0, 4095, 2048, 1024], np.uint32)
    packed = bytearray()
    for first, second in values.reshape(2, 2).tolist():
        packed += bytes([first >> 4, (first & 15) << 4 | second >> 8, second & 255])
    entries = [(256, 4), (257, 1), (258, 12), (259, 1), (262, 1), (273, 0), (277, 1), (278, 1)]
    entries += [(279, len(packed))]
    start = 8 + 2 + 12 * len(entries) + 4
    body = b"".join(
        struct.pack("<HHII", tag, 4, 1, start if tag == 273 else value) for tag, value in entries
    )
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + b"\0\0\0\0"
    assert shades(io.BytesIO(head + packed)).tolist() == [[0, 255, 128, 64]]


def test_white_is_zero_is_shown_as_it_is_meant() -> None:
    stream = io.BytesIO()
    values = RAMP.astype(np.uint16)
    Image.fromarray(values).save(stream, "TIFF", tiffinfo={TIFF_PHOTOMETRIC: 0})
    content = bytearray(stream.getvalue())
    # Pillow writes its own photometric interpretation over the one that it is given.
    at = content.index(struct.pack("<HHI", TIFF_PHOTOMETRIC, 3, 1)) + 8
    content[at : at + 2] = struct.pack("<H", 0)
    found = shades(io.BytesIO(bytes(content)))
    np.testing.assert_array_equal(found, 255 - np.rint(values / 257).astype(np.uint8))


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (np.array([[0, 70000]], np.int32), "lie in 0 to 70000; expected 0 to 65535"),
        (np.array([[-1000, 3000]], np.int32), "lie in -1000 to 3000; expected 0 to 65535"),
        (np.array([[0, 255]], np.float32), "lie in 0 to 255; expected 0 to 1"),
        (np.array([[0, np.nan]], np.float32), "expected 0 to 1"),
        (np.array([[0, np.inf]], np.float32), "expected 0 to 1"),
        (np.array([[0, 380]], np.uint16), "0 to 380, of 65535, would all be one shade"),
        (np.array([[65400, 65535]], np.uint16), "would all be one shade of 8 bits"),
        (
            np.array([[0, 4095]], np.uint16),
            "0 to 4095, of 65535, would be the shades 0 to 16 of 255",
        ),
        (np.array([[60000, 65535]], np.uint16), "would be the shades 233 to 255 of 255"),
        (np.array([[0, 1e-3]], np.float32), "would all be one shade of 8 bits"),
    ],
)
def test_what_8_bits_cannot_show_is_told_and_never_made_black_or_white(
    values: np.ndarray, match: str
) -> None:
    with pytest.raises(DecodeError, match=match):
        decode(encoded(values, "TIFF"), 100)
    with pytest.raises(DecodeError, match=match):
        to_rgb(Image.fromarray(values))


def test_a_picture_of_one_value_stays_one_shade() -> None:
    assert set(shades(encoded(np.full((3, 3), 2570, np.uint16), "PNG")).flat) == {10}
    assert set(shades(encoded(np.zeros((3, 3), np.float32), "TIFF")).flat) == {0}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_colours_of_8_bits_come_back_to_the_bit(kind: str) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    np.testing.assert_array_equal(decode(encoded(picture, kind), 100), picture)


@pytest.mark.parametrize("kind", ["DDS", "EPS", "ICO", "PCX", "SGI", "SPIDER", "TGA"])
def test_format_without_a_listed_suffix_is_never_opened(kind: str) -> None:
    grey = np.zeros((8, 8), np.float32 if kind == "SPIDER" else np.uint8)
    with pytest.raises(DecodeError, match="cannot identify"):
        decode(encoded(grey, kind), 100)


@pytest.mark.parametrize("kind", ["AVIF", "WEBP"])
def test_what_a_content_network_sends_under_another_name_is_decoded(kind: str) -> None:
    assert decode(encoded(np.full((8, 8, 3), 90, np.uint8), kind), 100).shape == (8, 8, 3)


def test_empty_file_is_called_empty() -> None:
    with pytest.raises(DecodeError, match="the file is empty"):
        decode(io.BytesIO(), 100)


def test_whatever_a_decoder_raises_is_a_reason() -> None:
    content = bytearray(encoded(np.full((64, 64, 3), 90, np.uint8), "AVIF").getvalue())
    reasons = set()
    for place in range(len(content)):
        damaged = content.copy()
        damaged[place] ^= 0x40
        try:
            decode(io.BytesIO(bytes(damaged)), 10**6)
        except DecodeError as error:
            reasons.add(str(error).partition(":")[0])
    assert "RuntimeError" in reasons


def test_pipe_and_device_are_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", tmp_path, Path("/dev/zero")):
        with pytest.raises(DecodeError, match="a folder, a pipe or a device, and no file"):
            decode(path, 100)


def test_file_larger_than_any_picture_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.tif").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DecodeError, match="1099511627776 bytes, over the 1056576 that a file of"):
        decode(tmp_path / "a.tif", 1000)


def test_file_that_cannot_be_read_is_no_image_that_cannot_be_decoded(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        decode(tmp_path / "gone.png", 100)


def test_identity_names_the_rule_of_depth_where_a_file_may_need_it() -> None:
    assert decoder(["a.JPG", "b.webp"]) == decoder([])
    assert decoder(["a.jpg", "b.png"]) == decoder() == f"{decoder([])} depth-2"


@given(st.tuples(st.integers(8, 300), st.integers(8, 300)), st.integers(4, 80), st.integers(0, 99))
def test_jpeg_that_will_be_resized_is_decoded_smaller_but_never_under_twice_that(
    sides: tuple[int, int], short_side: int, seed: int
) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    file = io.BytesIO()
    picture = Image.fromarray(noise).resize(sides, Image.Resampling.BICUBIC)
    picture.save(file, "JPEG", quality=95)
    whole = decode(io.BytesIO(file.getvalue()), 10**6)
    reduced = decode(io.BytesIO(file.getvalue()), 10**6, short_side)
    factor = min(sides) / min(reduced.shape[:2])
    if reduced.shape == whole.shape:
        assert np.array_equal(reduced, whole)
    else:
        assert min(reduced.shape[:2]) >= 2 * short_side
    assert factor < 9
    assert reduced.shape[1] / reduced.shape[0] == pytest.approx(sides[0] / sides[1], rel=0.15)


def test_photograph_is_the_same_at_its_short_side_however_it_was_decoded() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((1200, 900), Image.Resampling.BICUBIC).save(file, "JPEG")
    whole, reduced = (decode(io.BytesIO(file.getvalue()), 10**7, side) for side in (None, 100))
    assert (whole.shape, reduced.shape) == ((900, 1200, 3), (225, 300, 3))
    left, right = (
        np.asarray(Image.fromarray(image).resize((120, 90), Image.Resampling.BOX), np.float64)
        for image in (whole, reduced)
    )
    assert np.abs(left - right).mean() < 1.5


def test_png_has_one_size_to_be_decoded_in() -> None:
    file = encoded(np.zeros((64, 64, 3), np.uint8), "PNG")
    assert decode(file, 10**6, 4).shape == (64, 64, 3)
