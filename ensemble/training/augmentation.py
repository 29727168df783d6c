"""Augmentation: random changes of training images, a batch in one resampling."""

import math

import torch
from jaxtyping import Float
from torch.nn import functional

from ensemble.inference.staging import to_device
from ensemble.training.recipe import AugmentationConfig


def augment(
    images: Float[torch.Tensor, "image channel height width"],
    config: AugmentationConfig,
    generator: torch.Generator,
) -> Float[torch.Tensor, "image channel height width"]:
    """Rotate, zoom, shift and mirror every image by its own random amounts.

    Where images are neither rotated nor zoomed, they move by whole pixels, so that none is blurred:
    the usual random crop of a padded image.

    Args:
        images: Pixels in [0, 1], not normalised, because what comes in from outside is 0, black.
        config: Bounds of the random changes.
        generator: A generator on the CPU, so that the changes are the same on a GPU.

    Returns:
        New images in the same range; `images` is left as it is.
    """
    height, width = images.shape[2:]
    matrices = _random_matrices(len(images), (height, width), config, generator)
    matrices = to_device(matrices, images.device).to(images.dtype)
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def _random_matrices(
    count: int, sides: tuple[int, int], config: AugmentationConfig, generator: torch.Generator
) -> Float[torch.Tensor, "image 2 3"]:
    def uniform(low: float, high: float) -> Float[torch.Tensor, " image"]:
        return low + (high - low) * torch.rand(count, generator=generator)

    angle = uniform(-1.0, 1.0) * math.radians(config.max_rotation_degrees)
    # The matrix maps output to input positions, so a zoom divides.
    scale = 1 / uniform(config.min_scale, config.max_scale)
    mirror = torch.where(uniform(0.0, 1.0) < config.flip_probability, -1.0, 1.0)
    # Positions run from -1 to 1: a whole side is 2.
    shift_x, shift_y = (uniform(-2.0, 2.0) * config.max_shift for _ in range(2))
    if not config.max_rotation_degrees and config.min_scale == config.max_scale == 1:
        shift_x, shift_y = (
            _whole_pixels(shift, side, config.max_shift)
            for shift, side in ((shift_x, sides[1]), (shift_y, sides[0]))
        )
    cosine, sine = scale * torch.cos(angle), scale * torch.sin(angle)
    rows = [
        torch.stack([cosine * mirror, -sine, shift_x], dim=1),
        torch.stack([sine * mirror, cosine, shift_y], dim=1),
    ]
    return torch.stack(rows, dim=1)


def _whole_pixels(
    shift: Float[torch.Tensor, " image"], side: int, max_shift: float
) -> Float[torch.Tensor, " image"]:
    """Round shifts to whole pixels, so that every number of pixels within the bound is equally likely."""
    most = math.floor(max_shift * side)
    if not most:
        return torch.zeros_like(shift)
    share = (shift / max_shift + 2) / 4
    return (torch.floor(share * (2 * most + 1)).clamp(max=2 * most) - most) * 2 / side
