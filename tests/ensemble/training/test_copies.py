"""Scaled and rotated copies of training images: their number, their sizes against the formula, and their draw."""

import pytest
import torch

from ensemble.models import registry as models
from ensemble.training.augmentation_settings import CopiesConfig
from ensemble.training.copies import add_copies
from ensemble.training.loop import train
from ensemble.training.recipe import RecipeConfig

SIDE, COUNT = 64, 400


def _discs() -> tuple[torch.Tensor, torch.Tensor]:
    """White discs in the middle of black images, which a rotation leaves as they are."""
    line = torch.arange(SIDE) - (SIDE - 1) / 2
    disc = (line[:, None] ** 2 + line[None] ** 2 < 12**2).float()
    return disc.expand(COUNT, 3, SIDE, SIDE).clone(), torch.arange(COUNT) % 10


def test_copies_stand_behind_images_that_stay_and_have_their_labels() -> None:
    images, labels = _discs()
    pixels, targets = add_copies(images, labels, CopiesConfig(number=2), 0)
    assert len(pixels) == len(targets) == 3 * COUNT
    assert torch.equal(pixels[:COUNT], images)
    assert torch.equal(targets, labels.repeat(3))
    assert not torch.equal(pixels[COUNT : 2 * COUNT], pixels[2 * COUNT :])
    assert add_copies(images, labels, None, 0) == (images, labels)


def test_the_area_of_a_copy_is_the_square_of_a_factor_that_is_uniform_within_its_bounds() -> None:
    images, labels = _discs()
    pixels, _ = add_copies(images, labels, CopiesConfig(max_scale=1.5), 1)
    areas = (pixels[COUNT:].sum(dim=(1, 2, 3)) / images[0].sum()).sqrt()
    assert 0.99 < float(areas.min()) < 1.02
    assert 1.47 < float(areas.max()) < 1.51
    # A uniform draw from 1 to 1.5: mean 1.25, deviation 0.5 / sqrt(12).
    assert float(areas.mean()) == pytest.approx(1.25, abs=0.025)
    assert float(areas.std()) == pytest.approx(0.5 / 12**0.5, abs=0.015)


def test_a_copy_is_rotated_about_the_middle_within_its_bound() -> None:
    bars = torch.zeros(COUNT, 3, SIDE, SIDE)
    bars[:, :, 30:34, 8:56] = 1
    config = CopiesConfig(max_rotation_degrees=20, max_scale=1)
    pixels, _ = add_copies(bars, torch.zeros(COUNT, dtype=torch.int64), config, 2)
    line = torch.arange(SIDE) - (SIDE - 1) / 2
    masses = pixels[COUNT:, 0]
    # The direction of the longest axis of second moments.
    xx, yy, xy = (
        torch.einsum("nyx,yx->n", masses, product)
        for product in (
            line[None].square().expand(SIDE, SIDE),
            line[:, None].square().expand(SIDE, SIDE),
            line[:, None] * line[None],
        )
    )
    degrees = torch.rad2deg(0.5 * torch.atan2(2 * xy, xx - yy))
    assert 18 < float(degrees.abs().max()) <= 20.5
    assert float(degrees.std()) == pytest.approx(40 / 12**0.5, abs=1.2)


def test_bytes_stay_bytes_and_a_seed_gives_the_same_copies() -> None:
    images, labels = _discs()
    images = (images[:20] * 255).to(torch.uint8)
    first, second, other = (
        add_copies(images, labels[:20], CopiesConfig(), seed)[0] for seed in (3, 3, 4)
    )
    assert first.dtype == torch.uint8
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_copies_without_a_change_train_as_twice_the_images_do() -> None:
    # Bytes, so that rounding gives back what the resampling moved in the last bit.
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (24, 3, 16, 16), generator=generator).to(torch.uint8)
    labels = torch.arange(24) % 3
    base = {"epochs": 1, "batch_size": 8, "augmentation": None}
    still = {"copies": {"max_rotation_degrees": 0, "max_scale": 1}}
    weights = []
    for pixels, targets, more in (
        (images, labels, still),
        (images.repeat(2, 1, 1, 1), labels.repeat(2), {}),
    ):
        network = models.build("mobilenet_v2_small", 3, seed=0)
        recipe = RecipeConfig.model_validate(base | more)
        train(network, pixels, targets, recipe, (0.5,) * 3, (0.3,) * 3, seed=0)
        weights.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    assert torch.equal(*weights)


def test_copies_of_cropped_photographs_are_refused() -> None:
    with pytest.raises(ValueError, match="neither cropped"):
        RecipeConfig.model_validate(
            {"input_size": 32, "copies": {}, "crop": {"kind": "random_crop"}}
        )
