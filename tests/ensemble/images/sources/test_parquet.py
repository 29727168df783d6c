import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ensemble.errors import ConfigError, DataError, DecodeError
from ensemble.images.open import decode_shard, open_source
from ensemble.images.settings import ParquetConfig
from ensemble.images.shard import ShardSpec


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


@pytest.mark.parametrize("labels", [["a", "b"], [0.0, 1.0], [0, None]])
def test_label_that_is_no_class_index_is_refused(tmp_path: Path, labels: list[object]) -> None:
    pq.write_table(pa.table({"image": [b"", b""], "label": labels}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="expected a class index in every row"):
        open_source(ParquetConfig(path=tmp_path / "a.parquet")).index()
