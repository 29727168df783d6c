"""How the learning rate moves: pure arithmetic on the recipe, no torch."""

import bisect
import math

from ensemble.training.recipe import ConstantConfig, CosineConfig, MultiStepConfig


def rate_factor(
    schedule: ConstantConfig | CosineConfig | MultiStepConfig, epoch: float, epochs: int
) -> float:
    """Return what the peak learning rate is multiplied by.

    Args:
        schedule: Settings of the schedule.
        epoch: Epochs done so far, with the fraction of the present one; middle of the step.
        epochs: Epochs in all.
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
