"""Scaled and rotated copies of training images, drawn once: a set that is twice as large, or more."""

import torch
from jaxtyping import Int64

from ensemble.training.augmentation import augment
from ensemble.training.augmentation_settings import AugmentationConfig, CopiesConfig
from ensemble.training.training_images import Pixels, to_float

_BATCH_IMAGES = 1024


def add_copies(
    images: Pixels, labels: Int64[torch.Tensor, " image"], config: CopiesConfig | None, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add copies behind the images, which stay as they are, each with the label of its image.

    Args:
        images: Pixels from 0 to 255 as uint8, or in [0, 1] as floats; copies are of the same kind.
        labels: Class index of each image.
        config: Number of copies and their bounds; None for none.
        seed: Seed of what is drawn, so that the copies are the same in each epoch and attempt.

    Returns:
        All images, those that were given first, and their labels.

    Source: the study of PyramidNets (P4), section II-B: scaling and rotation that double the training set.
    """
    if config is None:
        return images, labels
    generator = torch.Generator().manual_seed(seed)
    changes = AugmentationConfig(
        max_shift=0.0,
        max_rotation_degrees=config.max_rotation_degrees,
        min_scale=config.min_scale,
        max_scale=config.max_scale,
    )
    parts = [images]
    for _ in range(config.number):
        for batch in torch.split(images, _BATCH_IMAGES):
            copy = augment(to_float(batch), changes, generator)
            if not images.is_floating_point():
                copy = copy.mul(255).round().to(torch.uint8)
            parts.append(copy)
    return torch.cat(parts), labels.repeat(config.number + 1)
