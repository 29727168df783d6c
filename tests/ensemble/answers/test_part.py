"""Parts and chapters: a row an image in the order of the listing, and the same chapters whatever happens."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ensemble.answers.chapters import Chapters, part_key
from ensemble.answers.part import encode_failed_part, encode_part
from ensemble.answers.settings import PartSettings
from ensemble.errors import ShapeError, TableError
from ensemble.images.shard import BadImage, ImageShard
from ensemble.images.unlabelled.open import Listed, Position
from ensemble.predictor import Prediction
from ensemble.storage.local_store import LocalStore

CLASSES = ("cat", "dog", "cow")


def prediction(rows: int) -> Prediction:
    logits = np.random.default_rng(rows).normal(size=(rows, 3))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    routed = np.arange(rows) % 2 == 1
    return Prediction(probabilities, probabilities.argmax(axis=1), routed, CLASSES, {})


def shard(ids: list[str], bad: dict[str, str]) -> ImageShard:
    images = [np.zeros((2, 2, 3), np.uint8) for _ in ids]
    return ImageShard.pack(ids, images, [BadImage(*pair) for pair in bad.items()])


@pytest.mark.parametrize("probabilities", [True, False])
def test_each_image_has_one_row_in_its_place_with_an_answer_or_a_reason(
    probabilities: bool,
) -> None:
    keys, names = ["k0", "k1", "k2", "k3", "k1"], ["a", "b", "c", "d", "b"]
    predicted = prediction(3)
    content = encode_part(
        keys,
        names,
        shard(["k1", "k3", "k1"], {"k0": "torn", "k2": "gone"}),
        predicted,
        PartSettings(2, probabilities),
    )
    rows = pq.read_table(io.BytesIO(content)).to_pylist()
    assert [row["image_id"] for row in rows] == names
    assert [row["error"] for row in rows] == ["torn", None, "gone", None, None]
    for place, number in ((1, 0), (3, 1), (4, 2)):
        row, expected = rows[place], predicted.probabilities[number]
        assert row["answer"] == CLASSES[row["answer_index"]] == predicted.labels[number]
        assert row["routed"] == predicted.routed[number]
        assert row["probability"] == np.float32(expected.max())
        top = predicted.top(2)[number]
        assert row["top_labels"] == [label for label, _ in top]
        assert row["top_probabilities"] == [np.float32(value) for _, value in top]
        if probabilities:
            np.testing.assert_array_equal(row["probabilities"], expected.astype(np.float32))
    empty = rows[0]
    assert all(empty[name] is None for name in empty if name not in ("image_id", "error"))
    assert ("probabilities" in empty) == probabilities
    failed = pq.read_table(
        io.BytesIO(encode_failed_part(names, "why", PartSettings(2, probabilities)))
    )
    assert failed.schema == pq.read_schema(io.BytesIO(content))
    assert failed["error"].to_pylist() == ["why"] * 5


def test_steps_of_a_cascade_and_conformal_sets_are_columns_of_their_own() -> None:
    sets = np.array([[True, False, True], [False, True, False]])
    exits = replace(prediction(2), exits=np.array([2, 1]), sets=sets)
    found = PartSettings(2, steps=True, sets=True)
    content = encode_part(
        ["a", "b", "c"], ["a", "b", "c"], shard(["a", "c"], {"b": "torn"}), exits, found
    )
    table = pq.read_table(io.BytesIO(content))
    assert table["step"].to_pylist() == [2, None, 1]
    first, bad, second = table["set"].to_pylist()
    assert (sorted(first), bad, second) == (["cat", "cow"], None, ["dog"])
    failed = pq.read_table(io.BytesIO(encode_failed_part(["a"], "why", found)))
    assert failed.schema == table.schema


def test_a_shard_without_any_sound_image_is_a_part_too() -> None:
    content = encode_part(["a"], ["a"], shard([], {"a": "torn"}), prediction(0), PartSettings())
    assert pq.read_table(io.BytesIO(content)).to_pylist()[0]["error"] == "torn"


@pytest.mark.parametrize("keys", [["a"], ["a", "b", "c"], ["b", "a"]])
def test_a_row_too_many_or_too_few_is_refused(keys: list[str]) -> None:
    with pytest.raises(ShapeError, match="the shard holds"):
        encode_part(keys, keys, shard(["a", "b"], {}), prediction(2), PartSettings())


class Numbers:
    """Images named by numbers, which may change between two listings."""

    def __init__(self, count: int, prefix: str = "") -> None:
        self.names = [f"{prefix}{number:03d}" for number in range(count)]

    def listed(self, position: Position) -> Iterator[Listed]:
        for name in self.names[position.count :]:
            yield Listed(name, name if int(name[-1]) % 2 else f"image {name}")

    def decode(self, key: str) -> np.ndarray:
        raise NotImplementedError


def read_all(chapters: Chapters) -> list[list[str]]:
    out, number = [], 0
    while True:
        chapter = chapters.read(number)
        out.append([image.key for image in chapter.images])
        if chapter.is_last:
            return out
        number += 1


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 30, 35])
def test_chapters_hold_every_image_once_whoever_lists_them(tmp_path: Path, count: int) -> None:
    source, store = Numbers(count), LocalStore(tmp_path)
    first = read_all(Chapters(source, store, 10))
    assert [key for keys in first for key in keys] == source.names
    assert all(len(keys) == 10 for keys in first[:-1])
    # The images change: what was listed is what is answered.
    assert read_all(Chapters(Numbers(count, "new"), store, 10)) == first


def test_a_listing_goes_on_after_the_chapters_that_are_kept(tmp_path: Path) -> None:
    source, store = Numbers(35), LocalStore(tmp_path)
    Chapters(source, store, 10).read(0)
    begun = Chapters(source, store, 10)
    begun.read(0)
    begun.read(1)
    assert [key for keys in read_all(Chapters(source, store, 10)) for key in keys] == source.names


def test_of_two_listings_at_a_time_the_first_that_is_kept_counts(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    one, other = Chapters(Numbers(25), store, 10), Chapters(Numbers(25, "other"), store, 10)
    assert one.read(0) == other.read(0)
    assert other.read(1) == one.read(1)
    assert other.read(1).images[0].key == "other010"


def test_shards_of_a_chapter_have_names_in_their_order(tmp_path: Path) -> None:
    chapter = Chapters(Numbers(25), LocalStore(tmp_path), 100).read(0)
    shards = list(chapter.shards(10))
    assert [key for key, _ in shards] == [part_key(0, index) for index in range(3)]
    assert [image for _, images in shards for image in images] == list(chapter.images)


def test_a_chapter_that_is_damaged_is_named(tmp_path: Path) -> None:
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "000000.parquet").write_bytes(b"x")
    with pytest.raises(TableError, match=r"000000\.parquet cannot be read as a chapter"):
        Chapters(Numbers(3), LocalStore(tmp_path), 10).read(0)
