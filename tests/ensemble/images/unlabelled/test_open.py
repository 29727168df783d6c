"""Listings of unlabelled images: complete, in one order, from any position; and what cannot be listed or decoded."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ensemble.errors import ConfigError, DecodeError
from ensemble.images.open import decode_shard
from ensemble.images.shard import ShardSpec
from ensemble.images.unlabelled.open import Position, open_unlabelled
from ensemble.images.unlabelled.settings import UnlabelledConfig
from ensemble.storage.open import open_store
from ensemble.storage.settings import S3Config

NUM_IMAGES = 23
PIXELS = [np.full((4, 5, 3), number, np.uint8) for number in range(NUM_IMAGES)]


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


NAMES = [f"{'ab'[number % 2]}/{number % 3}.x/{number:02d}.png" for number in range(NUM_IMAGES)]


def make_folder(root: Path) -> tuple[str, dict[str, int]]:
    for number, name in enumerate(NAMES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(PIXELS[number]))
    # A file between folders in the order of names, and what is no image.
    (root / "a" / "1.png").write_bytes(png(PIXELS[0]))
    (root / "a" / "notes.txt").write_text("no image")
    (root / ".hidden").mkdir()
    (root / ".hidden" / "x.png").write_bytes(b"")
    (root / "b" / "back").symlink_to(root)
    return str(root), {name: number for number, name in enumerate(NAMES)} | {"a/1.png": 0}


def make_list(root: Path) -> tuple[str, dict[str, int]]:
    make_folder(root)
    lines = [NAMES[0], str(root / NAMES[1]), *NAMES[2:]]
    (root / "list.txt").write_text("\n".join([*lines[:5], "", *lines[5:]]) + "\n")
    return str(root / "list.txt"), {line: number for number, line in enumerate(lines)}


def make_parquet(root: Path) -> tuple[str, dict[str, int]]:
    for file, (start, stop) in enumerate([(0, 9), (9, 9), (9, NUM_IMAGES)]):
        rows = [{"bytes": png(pixels), "path": None} for pixels in PIXELS[start:stop]]
        kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        table = pa.table({"image": pa.array(rows, kind)})
        pq.write_table(table, root / f"part-{file}.parquet", row_group_size=4)
    ids = [f"part-0.parquet:{row}" for row in range(9)]
    ids += [f"part-2.parquet:{row}" for row in range(NUM_IMAGES - 9)]
    return str(root), {image_id: number for number, image_id in enumerate(ids)}


def make_tars(root: Path) -> tuple[str, dict[str, int]]:
    ids = {}
    for file, numbers in enumerate([range(8), range(8, NUM_IMAGES)]):
        with tarfile.open(root / f"{file}.tar", "w") as tar:
            for number in numbers:
                for name, content in (
                    (f"{number}.png", png(PIXELS[number])),
                    (f"{number}.cls", b"3"),
                ):
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
                ids[f"{file}.tar/{number}.png"] = number
    return str(root), ids


FORMS = {"folder": make_folder, "list": make_list, "parquet": make_parquet, "webdataset": make_tars}


@pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)
def test_every_image_is_listed_once_from_any_position_and_decoded(
    tmp_path: Path, make: Callable[[Path], tuple[str, dict[str, int]]]
) -> None:
    path, expected = make(tmp_path)
    source = open_unlabelled(UnlabelledConfig(path=path))
    listed = list(source.listed(Position()))
    assert {image.image_id for image in listed} == expected.keys()
    assert len(listed) == len(expected)
    for count in range(1, len(listed) + 1):
        assert list(source.listed(Position(count, listed[count - 1].key))) == listed[count:]
    keys = tuple(image.key for image in listed)
    shard = decode_shard(source, ShardSpec(keys))
    assert shard.image_ids.tolist() == list(keys)
    for image, pixels in zip(listed, shard.images(), strict=True):
        assert np.array_equal(pixels, PIXELS[expected[image.image_id]])


def test_objects_of_s3_are_listed_from_any_position_and_read_ahead(moto_port: int) -> None:
    storage = S3Config(endpoint=f"http://127.0.0.1:{moto_port}")
    store = open_store("s3://tables/photographs", storage)
    for number in range(7):
        store.replace(f"x/{number}.png", png(PIXELS[number]))
    store.replace("x/notes.txt", b"")
    source = open_unlabelled(UnlabelledConfig(path="s3://tables/photographs", storage=storage))
    listed = list(source.listed(Position()))
    assert [image.image_id for image in listed] == [f"x/{number}.png" for number in range(7)]
    assert list(source.listed(Position(3, listed[2].key))) == listed[3:]
    shard = decode_shard(source, ShardSpec(tuple(i.key for i in listed)))
    assert [int(pixels[0, 0, 0]) for pixels in shard.images()] == list(range(7))


def test_a_list_may_mix_files_and_objects_and_name_what_is_not_there(
    tmp_path: Path, moto_port: int
) -> None:
    storage = S3Config(endpoint=f"http://127.0.0.1:{moto_port}")
    open_store("s3://tables/some", storage).replace("5.png", png(PIXELS[5]))
    (tmp_path / "4.png").write_bytes(png(PIXELS[4]))
    lines = [
        "4.png",
        "s3://tables/some/5.png",
        "s3://tables/some/6.png",
        "s3://",
        "gone.png",
        "4.png",
    ]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    source = open_unlabelled(UnlabelledConfig(path=str(tmp_path / "list.txt"), storage=storage))
    shard = decode_shard(source, ShardSpec(tuple(i.key for i in source.listed(Position()))))
    assert [int(pixels[0, 0, 0]) for pixels in shard.images()] == [4, 5, 4]
    assert {bad.image_id: bad.reason for bad in shard.bad} == {
        "s3://tables/some/6.png": "there is no such object",
        "s3://": "it is no s3://bucket/key",
        "gone.png": "it cannot be read: No such file or directory",
    }


def test_ids_of_parquet_are_those_of_a_column(tmp_path: Path) -> None:
    table = pa.table({"photo": [png(PIXELS[1]), png(PIXELS[2]), None], "name": ["x", "y", "z"]})
    pq.write_table(table, tmp_path / "a.parquet")
    path = str(tmp_path / "a.parquet")
    source = open_unlabelled(UnlabelledConfig(path=path, image="photo", id="name"))
    assert [image.image_id for image in source.listed(Position())] == ["x", "y", "z"]
    assert int(source.decode("a.parquet:1")[0, 0, 0]) == 2
    with pytest.raises(DecodeError, match="the row holds no image"):
        source.decode("a.parquet:2")
    with pytest.raises(
        ConfigError, match=r"no column 'image'; it has photo, name\. Set images\.image"
    ):
        next(open_unlabelled(UnlabelledConfig(path=path)).listed(Position()))


@pytest.mark.parametrize(
    ("files", "path", "message"),
    [
        ({}, "nowhere", "there is no '.*nowhere'. Expected a folder of images, a text file"),
        ({"a.parquet": b"x", "b.tar": b"x"}, "", r"holds \.parquet and \.tar files.*form=parquet"),
        ({"a.parquet": b"x"}, "", "cannot read '.*a.parquet' as Parquet"),
        ({"a.tar": b"x" * 600}, "", r"cannot read '.*a.tar' as a \.tar file"),
        ({"list.txt": b"\xff\xfe\x00"}, "list.txt", "cannot read '.*' as a list of images"),
        ({"list.txt": b"x" * 70_000}, "list.txt", "a line is no path"),
    ],
)
def test_what_cannot_be_listed_is_named(
    tmp_path: Path, files: dict[str, bytes], path: str, message: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        list(open_unlabelled(UnlabelledConfig(path=str(tmp_path / path))).listed(Position()))
