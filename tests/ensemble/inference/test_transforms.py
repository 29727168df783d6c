import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from ensemble.images.shard import ImageShard
from ensemble.inference.transforms import normalise_, resize_pixels, show, to_input
from ensemble.members.settings import Interpolation, Preprocessing
from ensemble.views.policies import list_views
from ensemble.views.settings import Crop, Crops144, MultiCrop, Square, TenCrop


def pictures(count: int, size: int = 9, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


TO = Preprocessing(size=9, mean=(0.1, 0.2, 0.3), std=(0.5, 1, 2))


def square(images: torch.Tensor, right: int = 0, down: int = 0, scale: float = 1) -> torch.Tensor:
    return show(images, Square(right=right, down=down, scale=float(scale)), TO)


def packed(images: list[np.ndarray]) -> ImageShard:
    return ImageShard.pack([str(i) for i in range(len(images))], images)


def test_center_is_the_image_itself() -> None:
    images = pictures(2)
    assert torch.equal(square(images), images)


@pytest.mark.parametrize(("right", "down"), [(1, 0), (-1, 0), (0, 1), (0, -1), (2, -3)])
def test_shift_is_a_roll_with_black_coming_in(right: int, down: int) -> None:
    images = pictures(2)
    expected = torch.roll(images, (down, right), dims=(2, 3))
    rows = slice(0, down) if down > 0 else slice(9 + down, 9)
    columns = slice(0, right) if right > 0 else slice(9 + right, 9)
    expected[:, :, rows] = 0
    expected[:, :, :, columns] = 0
    torch.testing.assert_close(square(images, right, down), expected)


def test_enlarged_image_shows_its_middle_and_keeps_a_constant_one() -> None:
    images = torch.zeros(1, 3, 9, 9)
    images[:, :, 4, 4] = 1
    shown = square(images, scale=2)
    assert float(shown.sum()) == pytest.approx(4 * 3, rel=1e-4)
    assert float(shown[0, 0, 4, 4]) == pytest.approx(1)
    constant = torch.full((1, 3, 9, 9), 0.25)
    torch.testing.assert_close(square(constant, scale=1.5), constant)


def test_shrunken_image_has_a_black_border() -> None:
    shown = square(torch.ones(1, 3, 9, 9), scale=0.5)
    assert float(shown[0, 0, 4, 4]) == pytest.approx(1)
    assert not shown[:, :, 0].any()
    assert not shown[:, :, :, -1].any()


def test_views_do_not_write_into_the_images() -> None:
    images = pictures(2)
    before = images.clone()
    for view in (Square(), Square(right=1), Square(scale=1.1), Square(flip=True)):
        show(images, view, TO)
    assert torch.equal(images, before)


def test_normalised_is_the_image_less_the_mean_by_the_deviation() -> None:
    images = pictures(2)
    shown = normalise_(images.clone(), TO)
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


def as_set(crops: list[torch.Tensor]) -> set[bytes]:
    return {crop.contiguous().numpy().tobytes() for crop in crops}


@pytest.mark.parametrize("side", [(40, 30), (31, 45), (32, 32)])
@pytest.mark.parametrize("short_side", [30, 27])
def test_ten_crop_is_torchvisions_of_the_central_square_in_its_order(
    side: tuple[int, int], short_side: int
) -> None:
    to = Preprocessing(size=24, mean=(0, 0, 0), std=(1, 1, 1))
    images = torch.rand(2, 3, *side, generator=torch.Generator().manual_seed(1))
    resized = transforms.resize(images, [short_side], antialias=True)
    expected = transforms.ten_crop(transforms.center_crop(resized, [short_side] * 2), [24, 24])
    found = [show(resized, v, to) for v in list_views(TenCrop(short_side=short_side), 24)]
    assert len(found) == 10
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("side", [(47, 63), (63, 47)])
def test_crops_144_are_144_different_ones_at_the_corners_of_three_squares(
    side: tuple[int, int],
) -> None:
    size = 28  # an eighth of 224, and so are the short sides
    to = Preprocessing(size=size, mean=(0, 0, 0), std=(1, 1, 1))
    image = torch.rand(1, 3, *side, generator=torch.Generator().manual_seed(1))
    views = list_views(Crops144(), size)
    found, expected = [], []
    for short in (32, 36, 40, 44):
        resized = transforms.resize(image, [short], antialias=True)
        found += [show(resized, v, to) for v in views if v.short_side == short]
        height, width = resized.shape[2:]
        long, end, middle = max(height, width), short - size, (short - size) // 2
        for start in (0, round((long - short) / 2), long - short):
            rows, columns = slice(0, short), slice(start, start + short)
            cut = resized[..., rows, columns] if width > height else resized[..., columns, rows]
            for shown in (cut, cut.flip(3)):
                corners = [(0, 0), (0, end), (end, 0), (end, end), (middle, middle)]
                expected += [shown[..., y : y + size, x : x + size] for y, x in corners]
                whole = transforms.resize(shown, [size, size], antialias=True)
                expected.append(whole.clamp(0, 1))
    assert len(views) == len(found) == 144
    assert {crop.shape for crop in found} == {(1, 3, size, size)}
    assert len(as_set(found)) == 144
    assert as_set(found) == as_set(expected)


def test_multi_crop_is_a_grid_of_25_from_edge_to_edge_at_each_scale_and_mirrored() -> None:
    to = Preprocessing(size=24, mean=(0, 0, 0), std=(1, 1, 1))
    views = list_views(MultiCrop(short_sides=(32, 48, 64)), 24)
    assert len(views) == 150
    image = torch.rand(1, 3, 32, 44, generator=torch.Generator().manual_seed(1))
    found = [show(image, v, to) for v in views if v.short_side == 32]
    expected = [
        shown[..., y : y + 24, x : x + 24]
        for shown in (image, image.flip(3))
        for y in (0, 2, 4, 6, 8)
        for x in (0, 5, 10, 15, 20)
    ]
    assert as_set(found) == as_set(expected)


def test_mirror_image_is_moved_like_the_image() -> None:
    images = pictures(1)
    mirrored = show(images, Square(right=2, flip=True), TO)
    torch.testing.assert_close(mirrored, square(images.flip(3), 2))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_resized_region_stays_between_black_and_white(interpolation: Interpolation) -> None:
    to = TO.model_copy(update={"interpolation": interpolation})
    images = pictures(1, 40).round()
    shown = show(images, Crop(short_side=40, is_resized=True), to)
    assert shown.shape == (1, 3, 9, 9)
    assert 0 <= shown.min() <= shown.max() <= 1


def test_resized_pixels_do_not_depend_on_the_images_beside_them() -> None:
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (5, 3, 37, 53), dtype=np.uint8))
    together = resize_pixels(pixels, (24,), "bilinear")
    assert together.shape == (5, 3, 24, 34)
    alone = [resize_pixels(one[None], (24,), "bilinear") for one in pixels]
    assert torch.equal(together, torch.cat(alone))
