import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from ensemble.images.shard import ImageShard
from ensemble.members import Interpolation, Preprocessing, View
from ensemble.views import apply_view, batches, normalise, to_input


def pictures(count: int, size: int = 9, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def packed(images: list[np.ndarray]) -> ImageShard:
    return ImageShard.pack([str(i) for i in range(len(images))], images)


def test_center_is_the_image_itself() -> None:
    images = pictures(2)
    assert torch.equal(apply_view(images, View()), images)


@pytest.mark.parametrize(("right", "down"), [(1, 0), (-1, 0), (0, 1), (0, -1), (2, -3)])
def test_shift_is_a_roll_with_black_coming_in(right: int, down: int) -> None:
    images = pictures(2)
    expected = torch.roll(images, (down, right), dims=(2, 3))
    rows = slice(0, down) if down > 0 else slice(9 + down, 9)
    columns = slice(0, right) if right > 0 else slice(9 + right, 9)
    expected[:, :, rows] = 0
    expected[:, :, :, columns] = 0
    torch.testing.assert_close(apply_view(images, View(right, down)), expected)


def test_enlarged_image_shows_its_middle_and_keeps_a_constant_one() -> None:
    images = torch.zeros(1, 3, 9, 9)
    images[:, :, 4, 4] = 1
    shown = apply_view(images, View(scale=2.0))
    assert float(shown.sum()) == pytest.approx(4 * 3, rel=1e-4)
    assert float(shown[0, 0, 4, 4]) == pytest.approx(1)
    constant = torch.full((1, 3, 9, 9), 0.25)
    torch.testing.assert_close(apply_view(constant, View(scale=1.5)), constant)


def test_shrunken_image_has_a_black_border() -> None:
    shown = apply_view(torch.ones(1, 3, 9, 9), View(scale=0.5))
    assert float(shown[0, 0, 4, 4]) == pytest.approx(1)
    assert not shown[:, :, 0].any()
    assert not shown[:, :, :, -1].any()


def test_views_do_not_write_into_the_images() -> None:
    images = pictures(2)
    before = images.clone()
    for view in (View(), View(right=1), View(scale=1.1)):
        apply_view(images, view)
    assert torch.equal(images, before)


def test_normalised_is_the_image_less_the_mean_by_the_deviation() -> None:
    images = pictures(2)
    shown = normalise(images, Preprocessing(size=9, mean=(0.1, 0.2, 0.3), std=(0.5, 1, 2)))
    for channel, (mean, std) in enumerate([(0.1, 0.5), (0.2, 1), (0.3, 2)]):
        torch.testing.assert_close(shown[:, channel], (images[:, channel] - mean) / std)


def test_image_of_the_right_size_is_only_divided_by_255() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    (shown,) = to_input([packed([image])], 8)
    assert torch.equal(shown, torch.from_numpy(image.transpose(2, 0, 1).copy()) / 255)


@settings(deadline=None, max_examples=40)
@given(
    sides=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=5),
    copies=st.integers(1, 4),
    size=st.sampled_from([4, 16, 33]),
    seed=st.integers(0, 2**32 - 1),
)
def test_input_does_not_depend_on_the_images_beside_it(
    sides: list[tuple[int, int]], copies: int, size: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    images = [
        rng.integers(0, 256, (*side, 3), dtype=np.uint8) for side in sides for _ in range(copies)
    ]
    together = to_input([packed(images)], size)
    alone = to_input([packed([image]) for image in images], size)
    assert together.shape == (len(images), 3, size, size)
    assert torch.equal(together, alone)
    assert 0 <= together.min() <= together.max() <= 1


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("side", [(30, 20), (20, 30), (24, 24), (9, 40)])
def test_short_side_is_resized_and_the_centre_cut_out(
    side: tuple[int, int], interpolation: Interpolation
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*side, 3), dtype=np.uint8)
    (shown,) = to_input([packed([image])], 16, 18, interpolation)
    pixels = torch.from_numpy(image.transpose(2, 0, 1).copy()) / 255
    mode = InterpolationMode(interpolation)
    resized = transforms.resize(pixels, [18], mode, antialias=True).clamp(0, 1)
    assert torch.equal(shown, transforms.center_crop(resized, [16]))


def test_no_image_is_an_empty_input() -> None:
    assert to_input([packed([])], 8).shape == (0, 3, 8, 8)
    assert to_input([], 8).shape == (0, 3, 8, 8)


def test_read_only_pixels_are_taken_as_they_are() -> None:
    shard = packed([np.full((4, 4, 3), 255, np.uint8)])
    shard.pixels.flags.writeable = False
    assert torch.equal(to_input([shard], 4), torch.ones(1, 3, 4, 4))


@given(count=st.integers(0, 30), size=st.integers(1, 8))
def test_batches_have_one_size_and_hold_every_image_once(count: int, size: int) -> None:
    images = pictures(count, size=2)
    found = list(batches(images, size))
    assert all(len(batch) == size for batch, _ in found)
    assert torch.equal(torch.cat([images[:0], *(b[:n] for b, n in found)]), images)
    assert all(not batch[n:].any() for batch, n in found)
