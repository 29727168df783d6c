from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ensemble.errors import ConfigError, DataError
from ensemble.images.index import ImageIndex
from ensemble.images.open import open_source
from ensemble.images.settings import FolderConfig, SplitConfig
from ensemble.images.split import Splits, held_out, split


def fill(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2), number % 256).save(path)
    return root


def laid_out(root: Path, **sizes: int) -> Path:
    """Parts of a data set, each with so many images of each of two classes."""
    for part, size in sizes.items():
        fill(root, *(f"{part}/{name}/{i:02d}.png" for name in ("cat", "dog") for i in range(size)))
    return root


def index(root: Path, **settings: object) -> ImageIndex:
    return open_source(FolderConfig.model_validate({"path": str(root)} | settings)).index()


def sizes(splits: Splits) -> tuple[int, int, int]:
    return len(splits.train), len(splits.search), len(splits.test)


def parts(splits: Splits) -> list[set[str]]:
    return [
        {image_id.partition("/")[0] for image_id in part.image_ids.tolist()}
        for part in (splits.train, splits.search, splits.test)
    ]


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_train_val_and_test_folders_are_the_three_splits(tmp_path: Path, val: str) -> None:
    found = index(laid_out(tmp_path, **{"train": 5, val: 3, "test": 2}))
    assert found.classes == ("cat", "dog")
    splits = split(found, SplitConfig(), 0)
    assert parts(splits) == [{"train"}, {val}, {"test"}]
    assert sizes(splits) == (10, 6, 4)
    assert splits.notes[-1] == (
        "splits: train has 10 of the 10 images of train; search has 6 of the 6 images of val; test has 4 "
        "of the 4 images of test"
    )
    assert any("parts of the data set, with a folder for each class" in n for n in splits.notes)


def test_counts_draw_from_the_folder_of_their_split(tmp_path: Path) -> None:
    found = index(laid_out(tmp_path, train=5, val=4, test=3))
    splits = split(found, SplitConfig(train=4, search=2, test=2), 0)
    assert parts(splits) == [{"train"}, {"val"}, {"test"}]
    assert sizes(splits) == (4, 2, 2)
    assert np.bincount(splits.search.labels).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("folders", "config", "expected_sizes", "expected_parts"),
    [
        # Half of val is searched on and half reported on.
        ({"train": 5, "val": 4}, {}, (10, 4, 4), [{"train"}, {"val"}, {"val"}]),
        ({"train": 5, "val": 4}, {"search": 6}, (10, 6, 2), [{"train"}, {"val"}, {"val"}]),
        ({"train": 5, "val": 4}, {"test": 6}, (10, 2, 6), [{"train"}, {"val"}, {"val"}]),
        # And so is test: members may have been trained on train.
        ({"train": 5, "test": 4}, {}, (10, 4, 4), [{"train"}, {"test"}, {"test"}]),
        ({"train": 5, "test": 4}, {"train": 0}, (0, 4, 4), [set(), {"test"}, {"test"}]),
        ({"val": 4, "test": 3}, {}, (0, 8, 6), [set(), {"val"}, {"test"}]),
        ({"val": 4, "test": 3}, {"train": 0}, (0, 8, 6), [set(), {"val"}, {"test"}]),
    ],
)
def test_folder_that_is_not_there_is_made_up_for_by_its_neighbour(
    tmp_path: Path,
    folders: dict[str, int],
    config: dict[str, int],
    expected_sizes: tuple[int, int, int],
    expected_parts: list[set[str]],
) -> None:
    splits = split(index(laid_out(tmp_path, **folders)), SplitConfig.model_validate(config), 0)
    assert sizes(splits) == expected_sizes
    assert parts(splits) == expected_parts


def test_one_folder_of_a_data_set_is_divided_by_counts(tmp_path: Path) -> None:
    found = index(laid_out(tmp_path, train=10))
    assert found.classes == ("cat", "dog")
    assert sizes(split(found, SplitConfig(train=8, search=6), 0)) == (8, 6, 6)


@pytest.mark.parametrize(
    ("folders", "config", "match"),
    [
        (
            {"train": 5, "val": 3, "test": 2},
            {"search": 7},
            r"7 search images, .* own val part has 6 to draw",
        ),
        (
            {"train": 5, "val": 3},
            {"search": 6},
            r"6 search \+ 1 test images, .* own val part has 6",
        ),
        (
            {"val": 5, "test": 3},
            {"train": 4},
            r"train is 4, .* none to train on\. Set images\.split\.train=0",
        ),
    ],
)
def test_counts_that_a_folder_cannot_give_are_refused(
    tmp_path: Path, folders: dict[str, int], config: dict[str, int], match: str
) -> None:
    found = index(laid_out(tmp_path, **folders))
    with pytest.raises(DataError, match=match):
        split(found, SplitConfig.model_validate(config), 0)


def test_prefix_of_the_test_images_goes_before_the_folders(tmp_path: Path) -> None:
    found = index(laid_out(tmp_path, train=5, val=5, test=3))
    splits = split(found, SplitConfig(train=8, search=8, test_from="test/"), 0)
    assert parts(splits) == [{"train", "val"}, {"train", "val"}, {"test"}]


def test_members_are_probed_on_images_that_nobody_trained_on(tmp_path: Path) -> None:
    found = held_out(index(laid_out(tmp_path, train=5, val=3)))
    assert {image_id.partition("/")[0] for image_id in found.image_ids.tolist()} == {"val"}
    plain = index(laid_out(tmp_path / "plain", cat=5))
    assert held_out(plain) is plain


def test_classes_that_are_called_as_parts_stay_classes(tmp_path: Path) -> None:
    found = index(fill(tmp_path, "bus/a.png", "car/b.png", "train/c.png", "train/steam/d.png"))
    assert found.classes == ("bus", "car", "train")
    assert found.parts is None


def test_part_without_folders_of_classes_is_left_aside_and_said(tmp_path: Path) -> None:
    laid_out(tmp_path, train=5, val=2)
    found = index(fill(tmp_path, "test/a.png", "test/b.png"))
    assert set(np.asarray(found.parts).tolist()) == {"train", "val"}
    where = "left aside: 2 images in no folder of a class below train and val, as 'test/a.png'"
    assert where in found.notes


def test_parts_without_any_folder_of_a_class_are_named(tmp_path: Path) -> None:
    fill(tmp_path, "train/a.png", "val/b.png")
    with pytest.raises(ConfigError, match=r"holds train and val, which are parts .*labels=\{path:"):
        index(tmp_path)


def test_images_in_no_folder_are_told_how_to_be_labelled(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"its 1 images lie in none.*labels=\{path: labels\.csv\}"
    ):
        index(fill(tmp_path, "a.png"))
    found = index(fill(tmp_path, "cat/b.png"))
    assert "left aside: 1 images in no folder of a class, as 'a.png'" in found.notes


def test_class_that_a_part_lacks_is_named_where_every_class_is_expected(tmp_path: Path) -> None:
    laid_out(tmp_path, train=5, val=3, test=2)
    found = index(fill(tmp_path, "train/eel/a.png"))
    assert found.classes == ("cat", "dog", "eel")
    with pytest.raises(DataError, match="search split has 6 images and none of class eel"):
        split(found, SplitConfig(), 0)


def test_test_folder_of_its_own_is_the_test_split(tmp_path: Path) -> None:
    laid_out(tmp_path, images=10, elsewhere=3)
    source = open_source(FolderConfig(path=tmp_path / "images", test=tmp_path / "elsewhere"))
    found = source.index()
    splits = split(found, SplitConfig(), 0)
    assert sizes(splits) == (16, 4, 6)
    assert all(i.startswith("test/") for i in splits.test.image_ids.tolist())
    assert not any(i.startswith("test/") for i in splits.train.image_ids.tolist())
    assert sizes(split(found, SplitConfig(train=0), 0)) == (0, 20, 6)
    assert sizes(split(found, SplitConfig(train=10, search=8, test=4), 0)) == (10, 8, 4)
    assert splits.notes[-1] == (
        "splits: train has 16 of the 20 images beside test; search has 4 of the 20 images beside test; "
        "test has 6 of the 6 images of test"
    )
    shown = np.asarray(Image.open(tmp_path / "elsewhere/dog/01.png").convert("RGB"))
    np.testing.assert_array_equal(source.decode("test/dog/01.png"), shown)


def test_test_folder_of_its_own_beside_one_in_the_folder_is_refused(tmp_path: Path) -> None:
    laid_out(tmp_path / "images", train=5, test=3)
    laid_out(tmp_path, elsewhere=3)
    with pytest.raises(ConfigError, match=r"holds a folder of test images, too\. Leave .*test out"):
        index(tmp_path / "images", test=str(tmp_path / "elsewhere"))
    with pytest.raises(
        ConfigError, match=r"which holds train, val or test folders.* as .*images/test"
    ):
        index(tmp_path / "elsewhere", test=str(tmp_path / "images"))


def test_layout_does_not_depend_on_the_table_or_place(tmp_path: Path) -> None:
    first = index(laid_out(tmp_path / "a", train=3, val=2))
    (tmp_path / "a").rename(tmp_path / "b")
    assert index(tmp_path / "b").sha256 == first.sha256
