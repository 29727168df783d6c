import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ensemble.checkpoints.header import read_bad_images
from ensemble.checkpoints.load import load_member
from ensemble.errors import EmptySplitError
from ensemble.images.index import ImageIndex
from ensemble.images.open import decode_for, open_source
from ensemble.images.settings import FolderConfig
from ensemble.images.shard import ImageShard
from ensemble.inference.transforms import to_input
from ensemble.members.settings import Preprocessing
from ensemble.training.augmentation_settings import RandomCropConfig, RandomResizedCropConfig
from ensemble.training.crops import centre_boxes, draw_boxes
from ensemble.training.data import open_images
from ensemble.training.member import train_member
from ensemble.training.photograph_batches import PhotographBatches
from ensemble.training.photographs import KeptForm, Photographs
from ensemble.training.recipe import RecipeConfig
from ensemble.training.task import Reading, TrainTask
from ensemble.views.settings import CenterView

CPU = torch.device("cpu")
TO = Preprocessing(size=16, resize=20, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
FORM = KeptForm(short_side=20, is_stretched=False, interpolation="bilinear")
SIZES = [(40, 30), (24, 64), (20, 20), (9, 12), (33, 33), (21, 50)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of two classes and six sizes, which are smooth, and one that is torn."""
    folder, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for number in range(24):
        height, width = SIZES[number % len(SIZES)]
        noise = Image.fromarray(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8))
        path = folder / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        noise.resize((width, height), Image.Resampling.BICUBIC).save(path)
    (folder / "a" / "torn.png").write_bytes(path.read_bytes()[:60])
    return folder


@pytest.fixture(scope="module")
def index(folder: Path) -> ImageIndex:
    return open_source(FolderConfig(path=str(folder))).index()


class Decoder:
    """Decodes images of a folder, and counts them."""

    def __init__(self, folder: Path) -> None:
        self._source, self.decoded = open_source(FolderConfig(path=str(folder))), 0

    def __call__(self, image_ids: tuple[str, ...]) -> Iterator[ImageShard]:
        self.decoded += len(image_ids)
        return decode_for(self._source, image_ids, FORM.short_side)


def pixels(photographs: Photographs) -> list[bytes]:
    return [photographs.read(row).tobytes() for row in range(len(photographs))]


def test_each_photograph_is_decoded_once_and_then_read_from_disk(
    folder: Path, index: ImageIndex, tmp_path: Path
) -> None:
    first = Decoder(folder)
    photographs = Photographs(index, FORM, TO, first, tmp_path, disk_mb=1)
    assert first.decoded == len(index) == 25
    assert len(photographs) == 24
    assert [bad.image_id for bad in photographs.bad] == ["a/torn.png"]
    second = Decoder(folder)
    again = Photographs(index, FORM, TO, second, tmp_path, disk_mb=1)
    assert pixels(again) == pixels(photographs)
    assert (first.decoded, second.decoded) == (25, 0)
    assert again.bad == photographs.bad


def test_photographs_beyond_the_bound_are_decoded_again_and_are_the_same(
    folder: Path, index: ImageIndex, tmp_path: Path
) -> None:
    kept = Photographs(index, FORM, TO, Decoder(folder), tmp_path / "kept", disk_mb=1)
    decode = Decoder(folder)
    others = Photographs(index, FORM, TO, decode, tmp_path / "none", disk_mb=0)
    assert pixels(others) == pixels(kept)
    assert decode.decoded == 25 + 24
    assert not (tmp_path / "none").exists()


def test_damaged_photograph_on_disk_is_decoded_again(
    folder: Path, index: ImageIndex, tmp_path: Path
) -> None:
    photographs = Photographs(index, FORM, TO, Decoder(folder), tmp_path, disk_mb=1)
    expected = pixels(photographs)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert pixels(photographs) == expected
    path.write_bytes(content[:1000])
    assert pixels(photographs) == expected
    os.remove(path)
    assert pixels(photographs) == expected


def test_small_images_are_kept_as_they_are_and_large_ones_at_the_short_side(
    folder: Path, index: ImageIndex
) -> None:
    photographs = Photographs(index, FORM, TO, Decoder(folder))
    short = photographs.sides.min(dim=1).values
    assert set(short.tolist()) == {9, 20}
    stretched = Photographs(index, replace(FORM, is_stretched=True), TO, Decoder(folder))
    assert {tuple(sides) for sides in stretched.sides.tolist()} == {(20, 20), (9, 12)}


def test_no_photograph_that_can_be_decoded_is_refused(index: ImageIndex) -> None:
    with pytest.raises(EmptySplitError, match="none of the images"):
        Photographs(index, FORM, TO, lambda image_ids: [ImageShard.pack([], [])])


def test_images_in_turn_are_what_the_member_will_be_given(folder: Path, index: ImageIndex) -> None:
    decode = Decoder(folder)
    photographs = Photographs(index, FORM, TO, decode)
    labels = torch.zeros(len(photographs), dtype=torch.int64)
    batches = PhotographBatches(photographs, labels, TO, None, CPU)
    given = torch.cat([images for images, _ in batches.in_turn(5)])
    expected = to_input(list(decode(photographs.image_ids)), TO.size, TO.resize, TO.interpolation)
    # One rounding to 8 bits; the smallest images are cut first, to whole pixels, and then resized.
    is_small = photographs.sides.min(dim=1).values < 20
    assert (given - expected)[~is_small].abs().max() <= 1.01 / 255


@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=20),
    st.sampled_from(
        [
            RandomCropConfig(short_side=20),
            RandomCropConfig(short_side=(16, 40)),
            RandomResizedCropConfig(),
            RandomResizedCropConfig(min_area=1, max_area=1, max_ratio=1),
        ]
    ),
    st.integers(0, 9),
)
def test_boxes_lie_within_their_images(
    sizes: Sequence[tuple[int, int]],
    crop: RandomCropConfig | RandomResizedCropConfig,
    seed: int,
) -> None:
    sides = torch.tensor(sizes)
    for to in (TO, TO.model_copy(update={"resize": None})):
        for boxes in (centre_boxes(sides, to), draw_boxes(sides, to, crop, generator(seed))):
            assert (boxes >= 0).all()
            assert (boxes[:, 2:] > 0).all()
            assert (boxes[:, :2] + boxes[:, 2:] <= sides).all()


def test_random_crops_are_everywhere_and_resized_ones_within_their_bounds() -> None:
    sides = torch.tensor([[20, 30]]).repeat(4000, 1)
    boxes = draw_boxes(sides, TO, RandomCropConfig(short_side=20), generator())
    assert (boxes[:, 2:] == 16).all()
    assert set(boxes[:, 0].tolist()) == set(range(5))
    assert set(boxes[:, 1].tolist()) == set(range(15))
    jittered = draw_boxes(sides, TO, RandomCropConfig(short_side=(20, 40)), generator())
    assert jittered[:, 2].unique().tolist() == list(range(8, 17))
    crop = RandomResizedCropConfig(min_area=0.3, max_area=0.6, max_ratio=2.0)
    boxes = draw_boxes(sides * 10, TO, crop, generator())
    areas = boxes[:, 2:].prod(dim=1) / (200 * 300)
    ratios = boxes[:, 3] / boxes[:, 2]
    assert 0.29 < areas.min() < 0.32
    assert 0.57 < areas.max() < 0.61
    assert 0.48 < ratios.min() < ratios.max() < 2.05


def test_an_epoch_draws_each_image_once_and_goes_on_in_its_middle(
    folder: Path, index: ImageIndex
) -> None:
    photographs = Photographs(index, FORM, TO, Decoder(folder))
    labels = torch.arange(len(photographs))
    batches = PhotographBatches(photographs, labels, TO, RandomResizedCropConfig(), CPU)
    whole = list(batches.batches(5, generator(3)))
    part = list(batches.batches(5, generator(3), first_step=2))
    assert sorted(label for _, part in whole for label in part.tolist()) == labels.tolist()
    assert len(part) == len(whole) - 2
    for left, right in zip(part, whole[2:], strict=True):
        assert torch.equal(left[0], right[0])
        assert torch.equal(left[1], right[1])


def test_training_reads_its_photographs_itself_or_takes_them_from_shards(
    folder: Path, index: ImageIndex, tmp_path: Path
) -> None:
    recipe = RecipeConfig(
        input_size=16, epochs=1, batch_size=8, crop=RandomCropConfig(short_side=(20, 24))
    )
    task = TrainTask("mine", "resnet14_small", recipe, 0, index, (0, 1), tmp_path / "shards")
    shards = list(Decoder(folder)(tuple(index.image_ids.tolist())))
    path = train_member(task, shards, CPU)
    reading = Reading(FolderConfig(path=str(folder)), disk_mb=1)
    alone = replace(task, folder=tmp_path / "alone", reading=reading)
    assert train_member(alone, [], CPU).read_bytes() == path.read_bytes()
    assert [bad.image_id for bad in read_bad_images(path)] == ["a/torn.png"]
    assert list((tmp_path / "alone" / "photographs").iterdir())
    preprocessing = load_member("a", path, CenterView(), "d" * 64).preprocessing
    assert (preprocessing.size, preprocessing.resize) == (16, 20)
    images = open_images(task, index, preprocessing, shards, CPU)
    given = torch.cat([batch for batch, _ in images.in_turn()])
    assert preprocessing.mean == pytest.approx(given.mean(dim=(0, 2, 3)).tolist(), abs=1e-4)
    assert preprocessing.std == pytest.approx(given.std(dim=(0, 2, 3)).tolist(), abs=1e-4)
