"""Random changes of training images, a batch in one resampling. No test-time views."""

import math

import torch
from jaxtyping import Float
from torch.nn import functional

from ensemble.training.recipe import AugmentationConfig


def augment(
    images: Float[torch.Tensor, "image channel height width"],
    config: AugmentationConfig,
    generator: torch.Generator,
) -> Float[torch.Tensor, "image channel height width"]:
    """Rotate, zoom, shift and mirror every image by its own random amounts.

    Args:
        images: Pixels in [0, 1], not normalised: what comes in from outside is 0, black.
        config: Bounds of the changes.
        generator: A CPU generator, so that a GPU draws the same changes.

    Returns:
        New images in the same range; the argument is left as it is.
    """
    matrices = _random_matrices(len(images), config, generator).to(images.device, images.dtype)
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def _random_matrices(
    count: int, config: AugmentationConfig, generator: torch.Generator
) -> Float[torch.Tensor, "image 2 3"]:
    def uniform(low: float, high: float) -> Float[torch.Tensor, " image"]:
        return low + (high - low) * torch.rand(count, generator=generator)

    angle = uniform(-1.0, 1.0) * math.radians(config.max_rotation_degrees)
    # The matrix maps output to input positions, so a zoom divides.
    scale = 1 / uniform(config.min_scale, config.max_scale)
    mirror = torch.where(uniform(0.0, 1.0) < config.flip_probability, -1.0, 1.0)
    # Positions run from -1 to 1: a whole side is 2.
    shift_x, shift_y = (uniform(-2.0, 2.0) * config.max_shift for _ in range(2))
    cosine, sine = scale * torch.cos(angle), scale * torch.sin(angle)
    rows = [
        torch.stack([cosine * mirror, -sine, shift_x], dim=1),
        torch.stack([sine * mirror, cosine, shift_y], dim=1),
    ]
    return torch.stack(rows, dim=1)
