import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.training.augmentation import augment
from ensemble.training.recipe import AugmentationConfig

STILL = AugmentationConfig(max_shift=0, max_rotation_degrees=0, min_scale=1, max_scale=1)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32),
    shift=st.floats(0, 0.5),
    degrees=st.floats(0, 180),
    low=st.floats(0.1, 1),
    high=st.floats(1, 4),
)
def test_shape_and_range_are_kept(
    seed: int, shift: float, degrees: float, low: float, high: float
) -> None:
    config = AugmentationConfig(
        max_shift=shift,
        max_rotation_degrees=degrees,
        min_scale=low,
        max_scale=high,
        flip_probability=0.5,
    )
    images = torch.rand(5, 3, 12, 12, generator=rng(seed))
    before = images.clone()
    augmented = augment(images, config, rng(seed))
    assert augmented.shape == images.shape
    assert augmented.dtype == images.dtype
    # Interpolation weights add up to 1 but for rounding.
    assert augmented.min() >= 0
    assert augmented.max() <= 1 + 1e-6
    assert torch.equal(images, before)


def test_nothing_allowed_changes_nothing() -> None:
    images = torch.rand(4, 3, 16, 16)
    torch.testing.assert_close(augment(images, STILL, rng()), images, atol=1e-5, rtol=0)


def test_flip_with_probability_one_mirrors_left_to_right() -> None:
    images = torch.rand(4, 3, 16, 16)
    mirrored = augment(images, STILL.model_copy(update={"flip_probability": 1.0}), rng())
    torch.testing.assert_close(mirrored, images.flip(3), atol=1e-5, rtol=0)


def test_each_image_changes_by_its_own_amounts() -> None:
    images = torch.rand(1, 3, 16, 16).repeat(4, 1, 1, 1)
    first, *others = augment(images, AugmentationConfig(), rng())
    assert all(not torch.equal(first, other) for other in others)


def test_shift_stays_within_its_bound() -> None:
    images = torch.zeros(64, 3, 16, 16)
    images[:, :, 6:10, 6:10] = 1
    config = STILL.model_copy(update={"max_shift": 0.25})
    shifted = augment(images, config, rng())
    # 4 pixels each way: the square from 6 to 10 stays inside 2 to 14, and none of it is lost.
    assert shifted.sum(dim=(1, 2, 3)).tolist() == pytest.approx([48.0] * 64, rel=1e-4)
    assert float(shifted[:, :, 4, 4].max()) > 0


def test_images_that_only_move_do_so_by_whole_pixels_each_as_likely() -> None:
    images = torch.zeros(900, 1, 16, 16)
    images[:, :, 8, 8] = 1
    moved = augment(images, STILL.model_copy(update={"max_shift": 0.0625}), rng())
    bright = moved[:, 0] > 0.99
    assert bright.sum(dim=(1, 2)).eq(1).all()
    counts = bright.sum(dim=0)[7:10, 7:10]
    assert int(counts.sum()) == 900
    # Nine places, 100 images expected at each.
    assert 60 < int(counts.min()) <= int(counts.max()) < 140


def test_same_generator_state_gives_the_same_images() -> None:
    images = torch.rand(4, 3, 16, 16)
    first, second = (augment(images, AugmentationConfig(), rng(5)) for _ in range(2))
    assert torch.equal(first, second)
