"""Augmentation: random changes of training images, a batch in one resampling."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch.nn import functional
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as transforms

from ensemble.inference.staging import to_device
from ensemble.training.augmentation_settings import AugmentationConfig, ColourConfig, ErasingConfig

_LARGEST_RATIO = 1 / 0.3


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


def change_colours(
    images: Float[torch.Tensor, "image 3 height width"],
    config: ColourConfig,
    generator: torch.Generator,
) -> Float[torch.Tensor, "image 3 height width"]:
    """Change brightness, contrast and saturation of every image by its own random amounts, in this order.

    Each is torchvision's formula, with a factor for each image in place of one for all.

    Args:
        images: Pixels in [0, 1], not normalised.
        config: Bounds of the random changes.
        generator: A generator on the CPU, so that the changes are the same on a GPU.
    """
    bounds = (config.brightness, config.contrast, config.saturation)
    factors = 1 + torch.tensor(bounds).view(3, 1) * (
        2 * torch.rand(3, len(images), generator=generator) - 1
    )
    there = to_device(factors, images.device).to(images.dtype).view(3, -1, 1, 1, 1)
    brightness, contrast, saturation = there
    images = (images * brightness).clamp(0, 1)
    mean: torch.Tensor = transforms.rgb_to_grayscale(images).mean(dim=(1, 2, 3), keepdim=True)
    images = torch.lerp(mean.expand_as(images), images, contrast).clamp(0, 1)
    grey: torch.Tensor = transforms.rgb_to_grayscale(images, num_output_channels=3)
    return torch.lerp(grey, images, saturation).clamp(0, 1)


def measure_components(
    images: Float[torch.Tensor, "image 3 height width"],
) -> Float[torch.Tensor, "3 3"]:
    """Measure the principal components of pixels, each as a column as long as the variance along it.

    Args:
        images: Pixels in [0, 1].
    """
    pixels = images.transpose(0, 1).flatten(1).to(torch.float64)
    variances, components = torch.linalg.eigh(torch.cov(pixels))
    return (components * variances.clamp_min(0)).to(torch.float32)


def shift_colours(
    images: Float[torch.Tensor, "image 3 height width"],
    components: Float[torch.Tensor, "3 3"],
    sd: float,
    generator: torch.Generator,
) -> Float[torch.Tensor, "image 3 height width"]:
    """Add to all pixels of each image sum_i a_i l_i p_i, with a_i from N(0, sd) drawn for each image.

    Args:
        images: Pixels in [0, 1], which may leave that range.
        components: The vectors l_i p_i as columns, from `measure_components`. The paper does not say in which units
            l_i is; here it is the variance of pixels in [0, 1], at which 0.1 is a visible and small change.
        sd: Standard deviation of a_i; the paper's is 0.1.
        generator: A generator on the CPU, so that the changes are the same on a GPU.

    Source: Krizhevsky, Sutskever, Hinton 2012, section 4.1.
    """
    shares = sd * torch.randn(len(images), 3, generator=generator)
    shifts = to_device(shares, images.device).to(images.dtype) @ components.T.to(images.dtype)
    return images + shifts[:, :, None, None]


def add_noise(
    images: Float[torch.Tensor, "image 3 height width"], sd: float, generator: torch.Generator
) -> Float[torch.Tensor, "image 3 height width"]:
    """Add Gaussian noise to every pixel, drawn on the CPU, so that it is the same on a GPU.

    Args:
        images: Normalised images.
        sd: Standard deviation, in units of the images.
        generator: A generator on the CPU.
    """
    noise = torch.randn(images.shape, generator=generator)
    return images + sd * to_device(noise, images.device).to(images.dtype)


def erase(
    images: Float[torch.Tensor, "image 3 height width"],
    config: ErasingConfig,
    generator: torch.Generator,
) -> Float[torch.Tensor, "image 3 height width"]:
    """Set a random rectangle of some images to 0, which is the mean colour of normalised ones.

    Args:
        images: Normalised images.
        config: Probability and areas.
        generator: A generator on the CPU, so that the rectangles are the same on a GPU.
    """
    count, (height, width) = len(images), images.shape[2:]
    draws = torch.rand(5, count, generator=generator)
    area = (config.min_area + (config.max_area - config.min_area) * draws[0]) * height * width
    # Source: Zhong et al. 2017, §3.2: aspect ratios from 0.3 to 1 / 0.3.
    ratio = torch.exp(math.log(_LARGEST_RATIO) * (2 * draws[1] - 1))
    heights = (area / ratio).sqrt().round().clamp(1, height)
    widths = (area * ratio).sqrt().round().clamp(1, width)
    tops = (draws[2] * (height - heights + 1)).floor()
    lefts = (draws[3] * (width - widths + 1)).floor()
    heights = torch.where(draws[4] < config.probability, heights, torch.zeros(()))
    box = to_device(torch.stack([tops, tops + heights, lefts, lefts + widths]), images.device)
    top, bottom, left, right = box.view(4, -1, 1)
    rows = torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device)
    is_row, is_column = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    return images.masked_fill((is_row[:, :, None] & is_column[:, None, :])[:, None], 0.0)


def make_mixer(
    mixup: float, cutmix: float, num_classes: int
) -> Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]] | None:
    """Make what mixes the images and the labels of a batch; None where nothing is mixed.

    It draws from torch's global generator.

    Args:
        mixup: Parameter of Mixup's Beta distribution; 0 for none.
        cutmix: Parameter of CutMix's Beta distribution; 0 for none.
        num_classes: Number of classes.

    Source: Zhang et al. 2017 (Mixup), Yun et al. 2019 (CutMix), by torchvision.
    """
    mixers: list[v2.Transform] = []
    if mixup:
        mixers.append(v2.MixUp(alpha=mixup, num_classes=num_classes))
    if cutmix:
        mixers.append(v2.CutMix(alpha=cutmix, num_classes=num_classes))
    if not mixers:
        return None
    return mixers[0] if len(mixers) == 1 else v2.RandomChoice(mixers)


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
