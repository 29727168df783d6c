import numpy as np
import pytest

from ensemble.errors import DataError
from ensemble.images.index import ImageIndex


def index(**changes: object) -> ImageIndex:
    fields: dict[str, object] = {
        "source": "somewhere",
        "image_ids": np.array(["a", "b", "c"]),
        "labels": np.array([0, 1, 1]),
        "classes": ("cat", "dog"),
    }
    return ImageIndex(**(fields | changes))


def test_take_keeps_the_order_asked_for() -> None:
    taken = index().take(np.array([2, 0]))
    assert taken.image_ids.tolist() == ["c", "a"]
    assert taken.labels.tolist() == [1, 0]
    assert taken.classes == ("cat", "dog")


def test_equal_indexes_have_equal_identities() -> None:
    assert index().sha256 == index(labels=np.array([0, 1, 1], np.int32)).sha256


@pytest.mark.parametrize(
    "change",
    [
        {"source": "elsewhere"},
        {"image_ids": np.array(["a", "b", "d"])},
        {"image_ids": np.array(["b", "a", "c"])},
        {"labels": np.array([0, 1, 0])},
        {"classes": ("dog", "cat")},
    ],
)
def test_any_change_gives_another_identity(change: dict[str, object]) -> None:
    assert index(**change).sha256 != index().sha256


def test_id_of_two_images_is_refused() -> None:
    with pytest.raises(DataError, match="image ids of somewhere are not unique"):
        index(image_ids=np.array(["a", "b", "a"]))


@pytest.mark.parametrize("labels", [[0, 1, 2], [-1, 0, 1]])
def test_label_that_is_no_class_is_refused(labels: list[int]) -> None:
    with pytest.raises(DataError, match=r"labels of somewhere lie in -?\d\.\.\d, but there are 2"):
        index(labels=np.array(labels))
