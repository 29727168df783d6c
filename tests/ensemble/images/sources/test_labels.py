import os
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from ensemble.errors import ConfigError, DataError
from ensemble.images.index import ImageIndex
from ensemble.images.open import open_source
from ensemble.images.settings import FolderConfig, SplitConfig
from ensemble.images.split import split

from .test_layout import fill

TABLE = "file,label\na.png,dog\nb.png,cat\nsub/c.png,dog\n"


def index(root: Path, table: str | bytes, **settings: object) -> ImageIndex:
    path = root.with_name("labels.csv")
    path.write_bytes(table if isinstance(table, bytes) else table.encode())
    config = {"path": str(root), "labels": {"path": str(path)} | settings}
    return open_source(FolderConfig.model_validate(config)).index()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return fill(tmp_path / "images", "a.png", "b.png", "sub/c.png")


def labels(found: ImageIndex) -> dict[str, str]:
    names = [found.classes[label] for label in found.labels]
    return dict(zip(found.image_ids.tolist(), names, strict=True))


@pytest.mark.parametrize(
    "table",
    [
        TABLE,
        "\ufeff" + TABLE,
        TABLE.replace(",", ";"),
        TABLE.replace(",", "\t"),
        TABLE.replace("\n", "\r\n\r\n"),
        TABLE.replace("a.png", '"a.png"').replace("sub/c", "./sub\\c"),
        TABLE.replace(".png", ""),
        "extra,label,file\nx,dog,a.png\ny,cat,b.png\nz,dog,sub/c.png\n",
        TABLE + "a.png,dog\n",
    ],
)
def test_each_image_has_the_class_of_its_row(images: Path, table: str) -> None:
    found = index(images, table)
    assert labels(found) == {"a.png": "dog", "b.png": "cat", "sub/c.png": "dog"}
    assert found.classes == ("cat", "dog")
    assert not found.bad


def test_numbers_are_classes_in_their_order(images: Path) -> None:
    found = index(images, "file,label\na.png,10\nb.png,9\nsub/c.png,10\n")
    assert found.classes == ("9", "10")
    assert found.labels.tolist() == [1, 0, 1]


def test_order_of_rows_changes_nothing(images: Path) -> None:
    head, *rows = TABLE.splitlines()
    assert index(images, "\n".join([head, *rows[::-1]])).sha256 == index(images, TABLE).sha256


def test_another_label_is_another_identity(images: Path) -> None:
    other = TABLE.replace("b.png,cat", "b.png,dog").replace("a.png,dog", "a.png,cat")
    assert index(images, other).sha256 != index(images, TABLE).sha256


def test_columns_of_other_names_are_set(images: Path) -> None:
    table = TABLE.replace("file,label", "image_id,breed")
    with pytest.raises(
        ConfigError, match=r"no column 'file'; it has 'image_id', 'breed'\. Set .*labels\.file"
    ):
        index(images, table)
    assert len(index(images, table, file="image_id", label="breed")) == 3


def test_column_of_splits_gives_the_parts(images: Path) -> None:
    fill(images, "d.png", "e.png", "f.png")
    rows = [
        f"{name}.png,cat,{part}"
        for name, part in zip("abdef", ["train", "train", "val", "val", "test"], strict=True)
    ]
    found = index(images, "\n".join(["file,label,fold", *rows]), split="fold")
    splits = split(found, SplitConfig(every_class=False), 0)
    ids = [part.image_ids.tolist() for part in (splits.train, splits.search, splits.test)]
    assert ids == [["a.png", "b.png"], ["d.png", "e.png"], ["f.png"]]


def test_file_that_is_not_there_is_a_bad_image_and_one_without_a_row_is_left_aside(
    images: Path,
) -> None:
    fill(images, "more/d.png", "more/e.png")
    found = index(images, TABLE + "gone.png,cat\n")
    assert [bad.image_id for bad in found.bad] == ["gone.png"]
    assert found.bad[0].reason.endswith("labels.csv names it, and it is not there")
    (note,) = [note for note in found.notes if note.startswith("left aside")]
    assert note.startswith("left aside: 2 images in no row of ")
    assert note.endswith("as 'more/d.png'")


def test_name_that_two_files_have_without_their_suffix_is_none_of_them(images: Path) -> None:
    fill(images, "a.jpg")
    assert [bad.image_id for bad in index(images, TABLE.replace("a.png", "a")).bad] == ["a"]


@pytest.mark.parametrize(
    ("table", "error", "match"),
    [
        (
            TABLE + "a.png,cat\n",
            DataError,
            "says of 'a.png' both 'dog' and 'cat'; expected one row",
        ),
        (TABLE + "./a.png,dog\n", DataError, "has 2 rows for 'a.png', by different names"),
        (TABLE + "d.png,\n", DataError, "row 5 of .* has nothing in its column 'label'"),
        (TABLE + "d.png\n", DataError, "row 5 of .* has nothing in its column 'label'"),
        ("file,label\nx.png,cat\n", ConfigError, "none of the 1 files in .* is below '.*images'"),
        (TABLE + "x.png,eel\n", ConfigError, "the class 'eel' stands in .*, and none of its files"),
        ("file,label\n", ConfigError, "holds 1 lines; expected a line of column names"),
        ("file,file,label\na.png,a.png,x\n", ConfigError, "has more than one column 'file'"),
        (b"file,label\n\xff.png,cat\n", ConfigError, "is not text in UTF-8"),
        (f"file,label\n{'x' * 200_000},cat\n", ConfigError, "as a table: field larger than"),
    ],
)
def test_table_that_cannot_be_meant_is_named(
    images: Path, table: str | bytes, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        index(images, table)


def test_split_that_is_none_is_named(images: Path) -> None:
    table = "file,label,split\na.png,cat,holdout\n"
    with pytest.raises(
        DataError, match=r"row 2 of .* has the split 'holdout'; expected train, val"
    ):
        index(images, table, split="split")


def test_table_that_is_not_there_is_named(images: Path) -> None:
    config = FolderConfig.model_validate({"path": str(images), "labels": {"path": "nowhere.csv"}})
    with pytest.raises(
        ConfigError, match=r"table of labels '.*nowhere\.csv': No such file.*labels\.path"
    ):
        open_source(config).index()


def test_table_that_is_a_pipe_or_a_folder_is_never_opened(images: Path) -> None:
    os.mkfifo(images.with_name("pipe.csv"))
    for path in (images.with_name("pipe.csv"), images):
        config = FolderConfig.model_validate({"path": str(images), "labels": {"path": str(path)}})
        with pytest.raises(ConfigError, match=r"table of labels '.*' is no file"):
            open_source(config).index()


def test_table_and_a_test_folder_do_not_go_together(images: Path) -> None:
    with pytest.raises(
        ValidationError, match=r"do not go together\. Put the test images into the table"
    ):
        FolderConfig.model_validate(
            {"path": str(images), "test": str(images), "labels": {"path": "labels.csv"}}
        )
    with pytest.raises(ValidationError, match="must both be folders here, or both s3://"):
        FolderConfig.model_validate({"path": str(images), "test": "s3://bucket/test"})


def test_pixels_are_those_of_the_file(images: Path) -> None:
    path = images.with_name("labels.csv")
    path.write_text(TABLE)
    config = FolderConfig.model_validate({"path": str(images), "labels": {"path": str(path)}})
    np.testing.assert_array_equal(open_source(config).decode("sub/c.png"), np.full((2, 2, 3), 2))
