import io
import json
import os
import resource
import shutil
import struct
import warnings
import zlib
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ensemble.errors import ConfigError, DataError, DecodeError
from ensemble.images.open import Source, decode_shard, open_source
from ensemble.images.settings import FolderConfig, SplitConfig
from ensemble.images.shard import BadImage, ShardSpec
from ensemble.images.split import split

HEIGHT, WIDTH = 20, 30
PIXELS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
PICTURE = Image.fromarray(PIXELS)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def decoded(folder: Path, content: bytes, name: str = "a.png", **settings: object) -> np.ndarray:
    (folder / "cat").mkdir(exist_ok=True)
    (folder / "cat" / name).write_bytes(content)
    source = open_source(FolderConfig(path=folder, **settings))
    assert source.index().image_ids.tolist() == [f"cat/{name}"]
    return source.decode(f"cat/{name}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes: three files, one of them deeper, and some that are no images."""
    for name in ("dog/b.JPG", "cat/deeper/a.png", "cat/z.webp", "cat/notes.txt", "dog/.hidden"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = {".JPG": "JPEG", ".png": "PNG", ".webp": "WEBP"}.get(path.suffix)
        path.write_bytes(encoded(PICTURE, kind) if kind else b"no image")
    (tmp_path / "README.md").write_text("no class")
    return tmp_path


def opened(folder: Path) -> Source:
    return open_source(FolderConfig(path=folder))


def test_classes_are_the_folders_and_ids_the_paths_below_the_root(folder: Path) -> None:
    index = opened(folder).index()
    assert index.classes == ("cat", "dog")
    assert index.image_ids.tolist() == ["cat/deeper/a.png", "cat/z.webp", "dog/b.JPG"]
    assert index.labels.tolist() == [0, 0, 1]


def test_index_does_not_depend_on_where_the_folder_is(folder: Path, tmp_path: Path) -> None:
    before = opened(folder).index()
    moved = folder.rename(tmp_path.with_name(f"{tmp_path.name}-moved"))
    assert opened(moved).index().sha256 == before.sha256


def test_changed_file_is_another_source(folder: Path) -> None:
    before = opened(folder).index()
    path = folder / "cat" / "z.webp"
    path.write_bytes(encoded(PICTURE.rotate(90), "WEBP"))
    os.utime(path, ns=(1, 1))
    after = opened(folder).index()
    assert after.image_ids.tolist() == before.image_ids.tolist()
    assert after.sha256 != before.sha256


def test_folder_that_is_called_like_an_image_is_none(folder: Path) -> None:
    (folder / "cat" / "album.jpg").mkdir()
    assert len(opened(folder).index()) == 3


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF", "WEBP"])
def test_lossless_image_comes_back_to_the_bit(tmp_path: Path, kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(decoded(tmp_path, encoded(PICTURE, kind, **options)), PIXELS)


def test_jpeg_comes_back_nearly(tmp_path: Path) -> None:
    smooth = PICTURE.resize((4, 4)).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
    image = decoded(tmp_path, encoded(smooth, "JPEG", quality=95), "a.jpeg")
    assert np.abs(image.astype(int) - np.asarray(smooth)).mean() < 5


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "RGBA", "RGB"])
def test_image_of_any_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    image = PICTURE.convert(mode)
    found = decoded(tmp_path, encoded(image, "PNG"))
    assert np.array_equal(found, np.asarray(image.convert("RGB")))
    assert found.shape == (HEIGHT, WIDTH, 3)


def test_cmyk_image_becomes_rgb(tmp_path: Path) -> None:
    image = decoded(tmp_path, encoded(PICTURE.convert("CMYK"), "JPEG", quality=100), "a.jpg")
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(image.astype(int) - PIXELS).mean() < 40


def test_palette_with_transparent_colours_is_an_image_like_any_other(tmp_path: Path) -> None:
    image = PICTURE.convert("P")
    found = decoded(tmp_path, encoded(image, "PNG", transparency=bytes(range(256))))
    assert np.array_equal(found, np.asarray(image.convert("RGB")))


def test_exif_rotation_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to show it
    plain = decoded(tmp_path, encoded(PICTURE, "JPEG"), "a.jpg")
    turned = decoded(tmp_path, encoded(PICTURE, "JPEG", exif=exif), "a.jpg")
    assert np.array_equal(turned, plain)


def test_content_decides_and_not_the_suffix(tmp_path: Path) -> None:
    assert np.array_equal(decoded(tmp_path, encoded(PICTURE, "PNG"), "a.jpeg"), PIXELS)


def test_image_within_max_pixels_is_decoded(tmp_path: Path) -> None:
    content = encoded(PICTURE, "PNG")
    assert decoded(tmp_path, content, max_pixels=HEIGHT * WIDTH).shape == PIXELS.shape
    with pytest.raises(DecodeError, match=r"30 x 20 pixels, over max_pixels = 599"):
        decoded(tmp_path, content, max_pixels=HEIGHT * WIDTH - 1)


def forged_png(width: int, height: int) -> bytes:
    """A PNG whose header says more than its bytes can hold."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return encoded(PICTURE, "PNG")[:8] + header + encoded(PICTURE, "PNG")[33:]


@pytest.mark.parametrize(
    ("width", "height", "match"),
    [
        (8_000, 8_000, "8000 x 8000 pixels, over max_pixels = 50000000"),
        (10_000, 10_000, "DecompressionBombWarning: Image size .100000000 pixels"),
        (60_000, 60_000, "DecompressionBombError: Image size .3600000000 pixels"),
    ],
)
def test_forged_size_is_refused_before_memory_is_taken(
    tmp_path: Path, width: int, height: int, match: str
) -> None:
    with pytest.raises(DecodeError, match=match):
        decoded(tmp_path, forged_png(width, height))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "the file is empty"),
        (b"no image at all", "UnidentifiedImageError"),
        (encoded(PICTURE, "JPEG")[:-200], r"OSError: image file is truncated"),
        (encoded(PICTURE, "PNG")[:200], r"OSError: image file is truncated"),
        (encoded(PICTURE, "PNG")[:20], r"Error: "),
    ],
)
def test_damaged_file_cannot_be_decoded(tmp_path: Path, content: bytes, match: str) -> None:
    with pytest.raises(DecodeError, match=match):
        decoded(tmp_path, content)


def test_file_that_cannot_be_read_ends_the_work_and_makes_no_bad_image(folder: Path) -> None:
    source = opened(folder)
    path = folder / "cat" / "z.webp"
    path.unlink()
    with pytest.raises(
        DataError, match=r"cannot read the image '.*cat/z\.webp': No such file"
    ) as told:
        decode_shard(source, ShardSpec(("cat/z.webp",)))
    assert not isinstance(told.value, DecodeError)
    path.symlink_to(path)  # a link to itself: the system refuses to open it, whoever asks
    with pytest.raises(DataError, match="Too many levels of symbolic links"):
        decode_shard(source, ShardSpec(("cat/z.webp",)))
    # Mended: nothing is remembered.
    path.unlink()
    path.write_bytes(encoded(PICTURE, "WEBP"))
    assert len(decode_shard(source, ShardSpec(("cat/z.webp",)))) == 1


def test_too_many_open_files_end_the_work_and_make_no_bad_image(folder: Path) -> None:
    source, held = opened(folder), []
    try:
        with pytest.raises(DataError, match="Too many open files"):  # noqa: PT012
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
            with suppress(OSError):
                while len(held) < 300:
                    held.append(os.open(os.devnull, os.O_RDONLY))
            decode_shard(source, ShardSpec(("cat/z.webp",)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in held:
            os.close(descriptor)


def test_linked_folders_and_files_are_followed(folder: Path, tmp_path_factory: Any) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "c.png").write_bytes(encoded(PICTURE, "PNG"))
    (folder / "dog" / "batch").symlink_to(elsewhere)
    (folder / "dog" / "d.png").symlink_to(elsewhere / "c.png")
    (folder / "eel").symlink_to(elsewhere)
    index = opened(folder).index()
    assert index.image_ids.tolist()[2:] == [
        "dog/b.JPG",
        "dog/batch/c.png",
        "dog/d.png",
        "eel/c.png",
    ]
    assert index.classes == ("cat", "dog", "eel")
    assert np.array_equal(opened(folder).decode("dog/batch/c.png"), PIXELS)


def test_links_in_a_circle_are_not_followed_and_said(folder: Path) -> None:
    (folder / "dog" / "again").symlink_to(folder / "dog")
    (folder / "cat" / "deeper" / "top").symlink_to(folder)
    index = opened(folder).index()
    assert "left aside: 2 links back to a folder around them, as 'cat/deeper/top'" in index.notes
    assert len(index) == 3


def test_links_that_double_at_each_level_end(tmp_path: Path) -> None:
    levels = [tmp_path / f"outside-{i}" for i in range(20)]
    for here, there in pairwise(levels):
        here.mkdir()
        for name in ("left", "right"):
            (here / name).symlink_to(there)
    levels[-1].mkdir()
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "cat").symlink_to(levels[0])
    with pytest.raises(ConfigError, match=r"more than 10000 linked folders .* lead in circles"):
        opened(tmp_path / "images").index()


def test_links_that_lead_nowhere_are_bad_images(folder: Path) -> None:
    sound = opened(folder).index()
    (folder / "dog" / "a.png").symlink_to("../../gone/a.png")
    (folder / "dog" / "batch").symlink_to("../../gone")  # images once, for all that is known
    index = opened(folder).index()
    assert [(bad.image_id, bad.reason) for bad in index.bad] == [
        ("dog/a.png", "a link to '../../gone/a.png', which is not there"),
        ("dog/batch", "a link to '../../gone', which is not there"),
    ]
    # Nothing that was predicted depends on them.
    assert index.sha256 == sound.sha256
    assert split(index, SplitConfig(train=0, search=2, every_class=False), 0).bad == index.bad


def test_class_of_broken_links_is_told_as_that(folder: Path) -> None:
    (folder / "eel").mkdir()
    for name in ("1.png", "2.png"):
        (folder / "eel" / name).symlink_to(f"../../gone/{name}")
    with pytest.raises(
        ConfigError,
        match=r"class 'eel' has 2 images, and none that can be read: 'eel/1.png' is a link",
    ):
        opened(folder).index()
    shutil.rmtree(folder / "eel")
    (folder / "eel").symlink_to("../gone")
    with pytest.raises(
        ConfigError, match=r"the link '.*/eel' leads to '../gone', which is not there"
    ):
        opened(folder).index()


@pytest.mark.parametrize(
    "name",
    [
        "$RECYCLE.BIN/c.png",
        ".DS_Store",
        ".ipynb_checkpoints/c.png",
        "Thumbs.db",
        "__MACOSX/dog/c.png",
        "desktop.ini",
        "dog/._b.jpg",
        "dog/.b.png",
        "dog/@eaDir/c.png",
    ],
)
def test_what_other_systems_leave_is_neither_class_nor_image(folder: Path, name: str) -> None:
    before = opened(folder).index()
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(encoded(PICTURE, "PNG"))
    after = opened(folder).index()
    assert after.sha256 == before.sha256
    assert any("hidden files or leftovers of other systems" in note for note in after.notes)


def test_pipes_and_devices_are_no_images(folder: Path) -> None:
    os.mkfifo(folder / "dog" / "pipe.png")
    (folder / "dog" / "null.png").symlink_to(os.devnull)
    index = opened(folder).index()
    assert len(index) == 3
    assert "left aside: 2 pipes, sockets or devices, as 'dog/null.png'" in index.notes


def test_names_that_are_not_utf8_have_an_id_that_any_file_holds(folder: Path) -> None:
    name = os.fsdecode(b"m\xf1.png")
    (folder / "dog" / name).write_bytes(encoded(PICTURE, "PNG"))
    (folder / os.fsdecode(b"caf\xe9")).mkdir()
    (folder / os.fsdecode(b"caf\xe9") / "a.png").write_bytes(encoded(PICTURE, "PNG"))
    source = opened(folder)
    index = source.index()
    assert index.classes == ("caf\\xe9", "cat", "dog")
    assert index.image_ids.tolist()[0] == "caf\\xe9/a.png"
    assert index.image_ids.tolist()[-1] == "dog/m\\xf1.png"
    assert json.loads(json.dumps(index.image_ids.tolist()).encode()) == index.image_ids.tolist()
    assert index.sha256 == opened(folder).index().sha256
    for image_id in ("dog/m\\xf1.png", "caf\\xe9/a.png"):
        assert np.array_equal(source.decode(image_id), PIXELS)


def test_name_with_a_backslash_is_the_file_of_that_name(folder: Path) -> None:
    (folder / "dog" / "m\\xf1.png").write_bytes(encoded(PICTURE, "PNG"))
    source = opened(folder)
    assert source.index().image_ids.tolist()[-1] == "dog/m\\xf1.png"
    assert np.array_equal(source.decode("dog/m\\xf1.png"), PIXELS)


def test_bytes_thrown_at_random_are_an_image_or_a_decode_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    source = open_source(FolderConfig(path=tmp_path, max_pixels=10_000))
    kinds = [encoded(PICTURE, kind) for kind in ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")]
    outcomes = set()
    for round_ in range(300):
        content = bytearray(kinds[round_ % len(kinds)])
        for _ in range(rng.integers(1, 6)):
            content[rng.integers(min(len(content), 60))] = rng.integers(256)
        (tmp_path / "x").write_bytes(content)
        try:
            outcomes.add(source.decode("x").dtype.name)
        except DecodeError:
            outcomes.add("bad")
    assert outcomes == {"uint8", "bad"}


def test_decoding_leaves_the_filters_of_warnings_as_they_were(folder: Path) -> None:
    before = list(warnings.filters)
    opened(folder).decode("cat/z.webp")
    assert list(warnings.filters) == before


def test_shard_holds_what_can_be_decoded_and_says_why_not(folder: Path) -> None:
    (folder / "cat" / "b.png").write_bytes(b"")
    spec = ShardSpec(("dog/b.JPG", "cat/b.png", "cat/deeper/a.png"))
    shard = decode_shard(opened(folder), spec)
    assert shard.image_ids.tolist() == ["dog/b.JPG", "cat/deeper/a.png"]
    assert np.array_equal(list(shard.images())[1], PIXELS)
    (bad,) = shard.bad
    assert isinstance(bad, BadImage)
    assert bad.image_id == "cat/b.png"
    assert bad.reason == "the file is empty"


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"cannot read the image folder .*nowhere': No such file.*source\.path"
    ):
        opened(tmp_path / "nowhere").index()


def test_file_instead_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "images.zip").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"images\.zip': Not a directory"):
        opened(tmp_path / "images.zip").index()


def test_folder_without_classes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(PICTURE, "PNG"))
    with pytest.raises(ConfigError, match="has no sub-folder; expected one per class"):
        opened(tmp_path).index()


def test_class_without_an_image_is_named(folder: Path) -> None:
    (folder / "emu").mkdir()
    (folder / "emu" / "notes.txt").write_text("soon")
    with pytest.raises(
        ConfigError, match=r"the class 'emu' has no image in .*expected files ending in \.avif"
    ):
        opened(folder).index()
