"""The learning rate over the epochs, computed from the recipe. No torch."""

import bisect
import math

from ensemble.training.recipe import ConstantConfig, CosineConfig, MultiStepConfig


def rate_factor(
    schedule: ConstantConfig | CosineConfig | MultiStepConfig, epoch: float, epochs: int
) -> float:
    """Compute the factor that the peak learning rate is multiplied by.

    Args:
        schedule: Settings of the schedule.
        epoch: Epochs done so far, up to the middle of the step: 2.5 in the middle of the third epoch.
        epochs: Number of all epochs.
    """
    if isinstance(schedule, ConstantConfig):
        return 1.0
    if isinstance(schedule, MultiStepConfig):
        return schedule.factor ** bisect.bisect_right(schedule.milestones, epoch)
    warmup = schedule.warmup_fraction * epochs
    if epoch < warmup:
        return epoch / warmup
    done = (epoch - warmup) / (epochs - warmup)
    return (1 + math.cos(math.pi * done)) / 2
