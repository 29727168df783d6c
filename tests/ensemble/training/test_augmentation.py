import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional

from ensemble.training.augmentation import (
    add_noise,
    augment,
    change_colours,
    erase,
    make_mixer,
    measure_components,
    shift_colours,
)
from ensemble.training.augmentation_settings import AugmentationConfig, ColourConfig, ErasingConfig

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


def test_colours_change_within_their_bounds_and_nothing_where_none_may() -> None:
    images = torch.rand(6, 3, 8, 8, generator=rng())
    assert torch.equal(change_colours(images, ColourConfig(), rng(1)), images)
    grey = torch.full((50, 3, 4, 4), 0.5)
    bright = change_colours(grey, ColourConfig(brightness=0.2), rng(1))
    assert 0.39 < bright.min() < 0.45
    assert 0.55 < bright.max() < 0.61
    config = ColourConfig(brightness=0.9, contrast=0.9, saturation=0.9)
    changed = change_colours(images, config, rng(1))
    assert changed.min() >= 0
    assert changed.max() <= 1


def test_colours_are_those_of_torchvision_with_one_factor() -> None:
    image = torch.rand(1, 3, 8, 8, generator=rng())
    draws = torch.rand(3, 1, generator=rng(3))
    brightness, contrast, saturation = (1 + 0.5 * (2 * draws[:, 0] - 1)).tolist()
    expected = functional.adjust_brightness(image, brightness)
    expected = functional.adjust_contrast(expected, contrast)
    expected = functional.adjust_saturation(expected, saturation)
    config = ColourConfig(brightness=0.5, contrast=0.5, saturation=0.5)
    torch.testing.assert_close(change_colours(image, config, rng(3)), expected, atol=1e-5, rtol=0)


def test_one_rectangle_within_its_bounds_is_erased() -> None:
    images = torch.ones(300, 3, 20, 20)
    config = ErasingConfig(probability=0.5, min_area=0.1, max_area=0.2)
    is_erased = erase(images, config, rng()) == 0
    shares = is_erased[:, 0].double().mean(dim=(1, 2))
    assert torch.equal(is_erased.all(dim=1), is_erased.any(dim=1))
    assert 100 < (shares > 0).sum() < 200
    assert shares.max() < 0.25
    assert shares[shares > 0].min() > 0.06
    rows, columns = (is_erased[:, 0].any(dim=dim).sum(dim=1) for dim in (2, 1))
    assert torch.equal(is_erased[:, 0].sum(dim=(1, 2)), rows * columns)


def test_mixed_labels_are_shares_of_two_classes() -> None:
    images, labels = torch.rand(8, 3, 8, 8), torch.arange(8)
    for mix in (make_mixer(0.5, 0.0, 10), make_mixer(0.0, 1.0, 10), make_mixer(0.5, 1.0, 10)):
        assert mix is not None
        mixed, targets = mix(images, labels)
        assert mixed.shape == images.shape
        assert targets.shape == (8, 10)
        torch.testing.assert_close(targets.sum(dim=1), torch.ones(8))
    assert make_mixer(0.0, 0.0, 10) is None


def coloured(num_images: int) -> torch.Tensor:
    """Images whose channels go together, as those of photographs do."""
    mixing = torch.tensor([[0.2, 0.1, 0.0], [0.18, 0.0, 0.05], [0.15, -0.1, -0.05]])
    noise = torch.randn(num_images, 3, 6, 6, generator=rng(8))
    return (0.5 + torch.einsum("cd,ndhw->nchw", mixing, noise)).clamp(0, 1)


def test_components_are_the_eigenvectors_of_the_covariance_times_their_eigenvalues() -> None:
    images = coloured(200)
    components = measure_components(images).double()
    covariance = torch.cov(images.double().transpose(0, 1).flatten(1))
    # sum l_i^2 p_i p_i^T is the square of the covariance.
    torch.testing.assert_close(
        components @ components.T, covariance @ covariance, atol=1e-6, rtol=0
    )
    lengths = components.norm(dim=0)
    directions = components / lengths
    torch.testing.assert_close(covariance @ directions, directions * lengths, atol=1e-6, rtol=0)


def test_colour_noise_has_the_covariance_of_the_formula_and_one_shift_for_an_image() -> None:
    components = measure_components(coloured(200))
    images = torch.rand(20_000, 3, 2, 2, generator=rng())
    shifts = shift_colours(images, components, 0.1, rng(1)) - images
    torch.testing.assert_close(shifts, shifts[:, :, :1, :1].expand_as(shifts), atol=1e-6, rtol=0)
    found = torch.cov(shifts[:, :, 0, 0].T)
    expected = 0.01 * components @ components.T
    torch.testing.assert_close(found, expected, atol=0.03 * float(expected.max()), rtol=0.05)


def test_noise_is_normal_with_its_deviation_and_new_for_each_pixel() -> None:
    images = torch.rand(50, 3, 16, 16, generator=rng())
    noise = add_noise(images, 0.3, rng(1)) - images
    assert float(noise.std()) == pytest.approx(0.3, rel=0.02)
    assert abs(float(noise.mean())) < 0.01
    # 68.3 % within one standard deviation, 95.4 % within two.
    within = [float((noise.abs() < k * 0.3).float().mean()) for k in (1, 2)]
    assert within == pytest.approx([0.683, 0.954], abs=0.01)
    neighbours = torch.stack([noise[..., :-1].flatten(), noise[..., 1:].flatten()])
    assert abs(float(torch.corrcoef(neighbours)[0, 1])) < 0.02
    assert torch.equal(add_noise(images, 0.3, rng(1)), add_noise(images, 0.3, rng(1)))
