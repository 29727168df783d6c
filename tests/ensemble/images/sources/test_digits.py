import numpy as np
import pytest
from sklearn.datasets import load_digits

from ensemble.errors import DecodeError
from ensemble.images.open import open_source
from ensemble.images.settings import DigitsConfig


def test_index_lists_every_digit_with_its_label() -> None:
    index = open_source(DigitsConfig()).index()
    assert len(index) == 1797
    assert index.classes == tuple("0123456789")
    assert index.image_ids[[0, -1]].tolist() == ["digits-0000", "digits-1796"]
    assert index.labels.tolist() == load_digits().target.tolist()


def test_index_is_the_same_each_time() -> None:
    first, second = (open_source(DigitsConfig()).index().sha256 for _ in range(2))
    assert first == second


@pytest.mark.parametrize("row", [0, 7, 1796])
def test_digit_is_decoded_as_gray_from_0_to_255(row: int) -> None:
    image = open_source(DigitsConfig()).decode(f"digits-{row:04d}")
    assert image.dtype == np.uint8
    assert image.shape == (8, 8, 3)
    assert image.max() >= 239
    expected = load_digits().images[row] / 16 * 255
    assert np.abs(image - expected[:, :, None]).max() <= 0.5


@pytest.mark.parametrize("image_id", ["digits-1797", "digits-", "digits--1", "cat.png"])
def test_unknown_digit_is_named(image_id: str) -> None:
    with pytest.raises(
        DecodeError, match=f"no image '{image_id}'; expected digits-0000 to digits-1796"
    ):
        open_source(DigitsConfig()).decode(image_id)


def test_some_digits_keep_their_ids_and_get_labels_of_their_own() -> None:
    everything, some = open_source(DigitsConfig()), open_source(DigitsConfig(only=(7, 5)))
    index, part = everything.index(), some.index()
    assert part.classes == ("5", "7")
    rows = np.flatnonzero(np.isin(index.labels, [5, 7]))
    np.testing.assert_array_equal(part.image_ids, index.image_ids[rows])
    np.testing.assert_array_equal(part.labels, (index.labels[rows] == 7).astype(int))
    first = str(part.image_ids[0])
    np.testing.assert_array_equal(some.decode(first), everything.decode(first))


def test_all_digits_are_dumped_as_before_there_were_some() -> None:
    assert DigitsConfig().model_dump(mode="json") == {"kind": "digits"}
    assert DigitsConfig(only=(1, 2)).model_dump() == {"kind": "digits", "only": (1, 2)}
