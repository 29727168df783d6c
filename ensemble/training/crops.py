"""Where training images are cut: a box for each image, drawn or in the centre, in pixels of the kept image."""

import math

import torch
from jaxtyping import Int64

from ensemble.members.settings import Preprocessing
from ensemble.training.augmentation_settings import RandomCropConfig, RandomResizedCropConfig

_ATTEMPTS = 10

# Top, left, height and width of a box in each image.
Boxes = Int64[torch.Tensor, "image 4"]
Sides = Int64[torch.Tensor, "image 2"]


def centre_boxes(sides: Sides, preprocessing: Preprocessing) -> Boxes:
    """Return the boxes that a member predicts: the centre, or the whole image where it is stretched.

    Args:
        sides: Height and width of each image as it is kept, which may be smaller than the short side
            that it is resized to.
        preprocessing: Size of the input, and the short side that images are resized to.
    """
    if preprocessing.resize is None:
        return torch.cat([torch.zeros_like(sides), sides], dim=1)
    side = _scaled_side(sides, preprocessing.size, torch.tensor(float(preprocessing.resize)))
    return _square_boxes(sides, side, (sides - side[:, None]).double() / 2)


def draw_boxes(
    sides: Sides,
    preprocessing: Preprocessing,
    crop: RandomCropConfig | RandomResizedCropConfig,
    generator: torch.Generator,
) -> Boxes:
    """Draw a box for each image.

    Args:
        sides: Height and width of each image as it is kept.
        preprocessing: Size of the input.
        crop: How boxes are drawn.
        generator: A generator on the CPU.
    """
    if isinstance(crop, RandomResizedCropConfig):
        return _draw_resized(sides, crop, generator)
    low, high = crop.short_sides
    short_side = low + (high - low) * torch.rand(len(sides), generator=generator)
    side = _scaled_side(sides, preprocessing.size, short_side.round())
    room = (sides - side[:, None]).double() + 1
    return _square_boxes(sides, side, room * _uniform(len(sides), 2, generator) - 0.5)


def _draw_resized(sides: Sides, crop: RandomResizedCropConfig, generator: torch.Generator) -> Boxes:
    """Draw areas and aspect ratios until a box fits, as torchvision's RandomResizedCrop; the centre if none does.

    Source: Szegedy et al. 2014, §6.
    """
    count, shape = len(sides), (len(sides), _ATTEMPTS)
    areas = sides.prod(dim=1, keepdim=True) * (
        crop.min_area + (crop.max_area - crop.min_area) * _uniform(*shape, generator)
    )
    ratios = torch.exp(math.log(crop.max_ratio) * (2 * _uniform(*shape, generator) - 1))
    heights, widths = (areas / ratios).sqrt().round(), (areas * ratios).sqrt().round()
    fits = (heights <= sides[:, :1]) & (widths <= sides[:, 1:]) & (heights > 0) & (widths > 0)
    first = fits.int().argmax(dim=1, keepdim=True)
    box = torch.cat([heights.gather(1, first), widths.gather(1, first)], dim=1).long()
    # Where none fits, the largest box within the bounds of the ratio.
    height, width = sides[:, 0].double(), sides[:, 1].double()
    largest = torch.stack(
        [
            torch.minimum(height, width * crop.max_ratio),
            torch.minimum(width, height * crop.max_ratio),
        ],
        dim=1,
    )
    has_one = fits.any(dim=1, keepdim=True)
    box = torch.where(has_one, box, largest.round().long().clamp_min(1))
    room = (sides - box).double()
    drawn = (room + 1) * _uniform(count, 2, generator) - 0.5
    corner = torch.where(has_one, drawn, room / 2).round().long()
    return torch.cat([corner.clamp_min(0).minimum(sides - box), box], dim=1)


def _uniform(rows: int, columns: int, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(rows, columns, generator=generator, dtype=torch.float64)


def _scaled_side(
    sides: Sides, size: int, short_side: torch.Tensor
) -> Int64[torch.Tensor, " image"]:
    """Return the side that becomes `size` pixels if the image is resized to a short side."""
    short = sides.min(dim=1).values
    return (size * short / short_side).round().long().clamp(min=1).minimum(short)


def _square_boxes(sides: Sides, side: torch.Tensor, corner: torch.Tensor) -> Boxes:
    box = torch.stack([side, side], dim=1)
    return torch.cat([corner.round().long().clamp_min(0).minimum(sides - box), box], dim=1)
