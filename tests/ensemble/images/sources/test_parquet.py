import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ensemble.config import read_settings
from ensemble.errors import ConfigError, DataError, DecodeError
from ensemble.images.open import decode_shard, open_source
from ensemble.images.settings import ParquetConfig, SplitConfig
from ensemble.images.shard import ShardSpec
from ensemble.images.split import split


def pixels(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (4 + number % 3, 5, 3), np.uint8)


def encoded(number: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels(number)).save(buffer, kind, lossless=True)
    return buffer.getvalue()


def write(path: Path, numbers: range, row_group_size: int = 3, **columns: list[object]) -> Path:
    table = {
        "image": [encoded(i, "WEBP" if i % 2 else "PNG") for i in numbers],
        "label": pa.array([i % 4 for i in numbers], pa.int16()),
    }
    pq.write_table(pa.table(table | columns), path, row_group_size=row_group_size)
    return path


def test_every_row_is_an_image_with_its_label(tmp_path: Path) -> None:
    source = open_source(ParquetConfig(path=write(tmp_path / "a.parquet", range(10))))
    index = source.index()
    assert index.labels.tolist() == [i % 4 for i in range(10)]
    assert index.classes == ("0", "1", "2", "3")
    assert index.image_ids.tolist() == [f"a/{i:06d}" for i in range(10)]
    # In any order, because shards are cut out of splits.
    for i in (7, 0, 9, 3, 3):
        np.testing.assert_array_equal(source.decode(f"a/{i:06d}"), pixels(i))


@pytest.mark.parametrize("form", ["list", "folder"])
def test_files_are_joined_in_order(tmp_path: Path, form: str) -> None:
    files = (write(tmp_path / "a.parquet", range(4)), write(tmp_path / "b.parquet", range(4, 9)))
    source = open_source(ParquetConfig(path=files if form == "list" else tmp_path))
    ids = source.index().image_ids.tolist()
    assert ids[3:5] == ["a/000003", "b/000000"]
    shard = decode_shard(source, ShardSpec(tuple(ids)))
    for i, image in enumerate(shard.images()):
        np.testing.assert_array_equal(image, pixels(i))


def test_columns_have_whatever_names(tmp_path: Path) -> None:
    images = pa.array([{"bytes": encoded(i), "path": f"{i}.png"} for i in range(3)])
    table = pa.table({"picture": images, "fine": [1, 0, 2], "name": ["x", "y", "z"]})
    pq.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "classes.json").write_text(json.dumps(["cat", "dog", "owl", "eel"]))
    config = ParquetConfig(
        path=tmp_path / "a.parquet",
        image="picture.bytes",
        label="fine",
        id="name",
        classes=tmp_path / "classes.json",
    )
    source = open_source(config)
    index = source.index()
    assert index.image_ids.tolist() == ["x", "y", "z"]
    assert index.classes == ("cat", "dog", "owl", "eel")
    np.testing.assert_array_equal(source.decode("z"), pixels(2))


def test_class_names_may_stand_on_lines_or_under_the_labels_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", range(4))
    (tmp_path / "lines.txt").write_text("a\nb\nc\nd\n")
    (tmp_path / "keys.json").write_text(json.dumps({"label": list("abcd"), "other": ["x"]}))
    for name in ("lines.txt", "keys.json"):
        config = ParquetConfig(path=path, classes=tmp_path / name)
        assert open_source(config).index().classes == tuple("abcd")


def test_identity_changes_with_the_files_and_the_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", range(6), other=[0, 1, 2, 3, 0, 1])
    first = open_source(ParquetConfig(path=path)).index()
    assert open_source(ParquetConfig(path=path)).index().sha256 == first.sha256
    assert open_source(ParquetConfig(path=path, label="other")).index().sha256 != first.sha256
    write(path, range(1, 7), other=[0, 1, 2, 3, 0, 1])
    assert open_source(ParquetConfig(path=path)).index().sha256 != first.sha256


def test_image_that_cannot_be_decoded_is_recorded(tmp_path: Path) -> None:
    table = pa.table({"image": [encoded(0), b"no image", None], "label": [0, 1, 0]})
    pq.write_table(table, tmp_path / "a.parquet")
    source = open_source(ParquetConfig(path=tmp_path / "a.parquet"))
    shard = decode_shard(source, ShardSpec(tuple(source.index().image_ids.tolist())))
    assert [bad.image_id for bad in shard.bad] == ["a/000001", "a/000002"]
    assert shard.bad[1].reason == "the row holds no image"


def test_forged_header_and_unknown_id_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", range(2))
    with pytest.raises(DecodeError, match="over max_pixels = 10"):
        open_source(ParquetConfig(path=path, max_pixels=10)).decode("a/000001")
    with pytest.raises(DecodeError, match="no image 'a/000009'"):
        open_source(ParquetConfig(path=path)).decode("a/000009")


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"label": "lable"}, r"has no column 'lable'; it has image, label"),
        ({"id": "file"}, r"has no column 'file'"),
        ({"path": "none.parquet"}, r"cannot read '.*none\.parquet' as Parquet"),
        ({"path": "empty"}, r"there is no \.parquet file in .*empty"),
        ({"path": "text.parquet"}, r"cannot read '.*text\.parquet' as Parquet"),
        ({"classes": "none.txt"}, r"cannot read the class names '.*none\.txt'"),
        ({"classes": "wrong.json"}, r"holds no list of class names"),
    ],
)
def test_wrong_setting_is_named(tmp_path: Path, settings: dict[str, str], match: str) -> None:
    write(tmp_path / "a.parquet", range(2))
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.parquet").write_text("text")
    (tmp_path / "wrong.json").write_text('{"fine": ["a"]}')
    is_path = {"path", "classes"}
    given = {k: str(tmp_path / v) if k in is_path else v for k, v in settings.items()}
    config = ParquetConfig.model_validate({"path": str(tmp_path / "a.parquet")} | given)
    with pytest.raises(ConfigError, match=match):
        open_source(config).index()


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        ([0.0, 1.0], r"a\.parquet is double; expected a class index or the name of a class"),
        (
            [0, None],
            r"1 of the 2 rows of .*a\.parquet are of no class: .* holds None, first in row 1",
        ),
        ([0, -1], r"1 of the 2 rows of .*a\.parquet are of no class: .* holds -1, first in row 1"),
        (["a", None], r"1 of the 2 rows of .*a\.parquet are of no class: .* holds None"),
    ],
)
def test_row_without_a_class_is_named_with_its_file(
    tmp_path: Path, labels: list[object], match: str
) -> None:
    pq.write_table(pa.table({"image": [b"", b""], "label": labels}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=match):
        open_source(ParquetConfig(path=tmp_path / "a.parquet")).index()


def test_labels_beyond_the_class_names_are_named_with_their_file(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    config = ParquetConfig(
        path=write(tmp_path / "a.parquet", range(8)), classes=tmp_path / "classes.txt"
    )
    with pytest.raises(
        DataError, match=r"4 of the 8 rows of .*a\.parquet .* holds 2, 3, first in row 2"
    ):
        open_source(config).index()


def hub(path: Path, numbers: range, labels: list[int], names: list[str] | None) -> Path:
    """A file as the Hugging Face library writes it."""
    images = pa.array([{"bytes": encoded(i), "path": f"{i}.png"} for i in numbers])
    table = pa.table({"image": images, "label": labels})
    if names is not None:
        feature = {"names": names, "_type": "ClassLabel"}
        info = {"info": {"features": {"image": {"_type": "Image"}, "label": feature}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    pq.write_table(table, path, row_group_size=2)
    return path


def test_file_of_the_hub_is_understood_as_it_is(tmp_path: Path) -> None:
    names = ["cat", "dog", "eel"]
    path = hub(tmp_path / "train.parquet", range(6), [0, 1, 0, 1, 0, 1], names)
    source = open_source(ParquetConfig(path=path))
    index = source.index()
    assert index.classes == ("cat", "dog", "eel")
    shard = decode_shard(source, ShardSpec(tuple(index.image_ids.tolist())))
    assert not shard.bad
    for i, image in enumerate(shard.images()):
        np.testing.assert_array_equal(image, pixels(i))


def test_names_of_the_settings_go_before_those_of_the_file(tmp_path: Path) -> None:
    path = hub(tmp_path / "train.parquet", range(2), [0, 1], ["cat", "dog"])
    (tmp_path / "classes.txt").write_text("\ufeffKatze\nHund\n", encoding="utf-8")
    config = ParquetConfig(path=path, classes=tmp_path / "classes.txt")
    assert open_source(config).index().classes == ("Katze", "Hund")


@pytest.mark.parametrize("metadata", [b"no JSON", b"[]", b"{}", b'{"info": {"features": null}}'])
def test_metadata_of_another_form_says_nothing(tmp_path: Path, metadata: bytes) -> None:
    path = hub(tmp_path / "a.parquet", range(2), [0, 1], None)
    table = pq.read_table(path).replace_schema_metadata({"huggingface": metadata})
    pq.write_table(table, path)
    assert open_source(ParquetConfig(path=path)).index().classes == ("0", "1")


def test_files_that_name_other_classes_are_refused(tmp_path: Path) -> None:
    hub(tmp_path / "a.parquet", range(2), [0, 1], ["cat", "dog"])
    hub(tmp_path / "b.parquet", range(2), [0, 1], ["dog", "cat"])
    with pytest.raises(DataError, match=r"a\.parquet and .*b\.parquet name other classes"):
        open_source(ParquetConfig(path=tmp_path)).index()


def test_test_split_without_labels_is_named_and_the_hint_works_as_it_stands(tmp_path: Path) -> None:
    hub(tmp_path / "train.parquet", range(6), [0, 1] * 3, None)
    hub(tmp_path / "test.parquet", range(6, 9), [-1] * 3, None)
    with pytest.raises(DataError, match=r"3 of the 3 rows of .*test\.parquet .* holds -1") as told:
        open_source(ParquetConfig(path=tmp_path)).index()
    hint = str(told.value).rpartition(": ")[2]
    source = read_settings([hint])["images"]["source"]
    config = ParquetConfig.model_validate(source)
    assert open_source(config).index().labels.tolist() == [0, 1] * 3


def test_files_of_train_and_test_are_told_apart_by_the_hint(tmp_path: Path) -> None:
    hub(tmp_path / "train-00000-of-00001.parquet", range(8), [0, 1] * 4, None)
    hub(tmp_path / "test-00000-of-00001.parquet", range(8, 12), [0, 1] * 2, None)
    index = open_source(ParquetConfig(path=tmp_path)).index()
    (note,) = index.notes
    words = read_settings(
        [note.rpartition(" ")[2], "images.split.train=4", "images.split.search=4"]
    )
    config = SplitConfig.model_validate(words["images"]["split"])
    assert all(i.startswith("test-") for i in split(index, config, 0).test.image_ids.tolist())


def test_labels_may_be_names_and_columns_dictionaries(tmp_path: Path) -> None:
    labels = pa.array(["dog", "cat", "dog"]).dictionary_encode()
    images = pa.array([encoded(i) for i in range(3)]).dictionary_encode()
    pq.write_table(pa.table({"image": images, "label": labels}), tmp_path / "a.parquet")
    source = open_source(ParquetConfig(path=tmp_path / "a.parquet"))
    index = source.index()
    assert (index.classes, index.labels.tolist()) == (("cat", "dog"), [1, 0, 1])
    np.testing.assert_array_equal(source.decode("a/000002"), pixels(2))


@pytest.mark.parametrize(
    ("column", "match"),
    [
        ([1, 2], r"column 'image' of .*a\.parquet is int64; expected encoded images as bytes"),
        (["a.png", "b.png"], "is string; expected encoded images"),
        ([{"url": "x"}, {"url": "y"}], "is struct<url: string>; expected encoded images"),
    ],
)
def test_column_without_encoded_images_is_refused_before_any_is_read(
    tmp_path: Path, column: list[object], match: str
) -> None:
    pq.write_table(pa.table({"image": column, "label": [0, 1]}), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match=match):
        open_source(ParquetConfig(path=tmp_path / "a.parquet")).index()


def test_row_with_a_path_and_no_bytes_is_a_bad_image(tmp_path: Path) -> None:
    images = pa.array(
        [{"bytes": encoded(0), "path": "0.png"}, {"bytes": None, "path": "1.png"}, None]
    )
    pq.write_table(pa.table({"image": images, "label": [0, 1, 1]}), tmp_path / "a.parquet")
    source = open_source(ParquetConfig(path=tmp_path / "a.parquet"))
    shard = decode_shard(source, ShardSpec(tuple(source.index().image_ids.tolist())))
    assert [bad.reason for bad in shard.bad] == [
        "the row holds no bytes, only the path '1.png'",
        "the row holds no image",
    ]


def test_pipe_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match=r"a\.parquet' is no file"):
        open_source(ParquetConfig(path=tmp_path / "a.parquet")).index()
    with pytest.raises(ConfigError, match=r"there is no \.parquet file in"):
        open_source(ParquetConfig(path=tmp_path)).index()


def test_leftovers_beside_the_files_are_left_aside(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", range(3))
    (tmp_path / "._a.parquet").write_bytes(b"of another system")
    assert len(open_source(ParquetConfig(path=tmp_path)).index()) == 3


def test_damaged_pages_are_bad_images_and_a_lost_file_ends_the_work(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", range(3))
    source = open_source(ParquetConfig(path=path))
    ids = tuple(source.index().image_ids.tolist())
    content = bytearray(path.read_bytes())
    content[4:400] = bytes(396)
    path.write_bytes(content)
    assert len(decode_shard(source, ShardSpec(ids)).bad) == 3
    path.unlink()
    with pytest.raises(ConfigError, match="No such file or directory"):
        decode_shard(open_source(ParquetConfig(path=path)), ShardSpec(ids))
