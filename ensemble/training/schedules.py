"""The learning rate over the epochs, computed from the recipe and the losses so far. No torch."""

import bisect
import math
from collections.abc import Sequence

from ensemble.training.schedule_settings import (
    AnySchedule,
    ConstantConfig,
    ExponentialConfig,
    MultiStepConfig,
    PlateauConfig,
    WarmRestartsConfig,
)


def rate_factor(
    schedule: AnySchedule, epoch: float, epochs: int, losses_nats: Sequence[float] = ()
) -> float:
    """Compute the factor that the peak learning rate is multiplied by.

    Nothing but the arguments decides it, so that a training that goes on needs no state of the schedule.

    Args:
        schedule: Settings of the schedule.
        epoch: Epochs done so far, up to the middle of the step: 2.5 in the middle of the third epoch.
        epochs: Number of all epochs.
        losses_nats: Loss after each epoch so far, which the schedule `plateau` watches.
    """
    if isinstance(schedule, ConstantConfig):
        return 1.0
    if isinstance(schedule, MultiStepConfig):
        return schedule.factor ** bisect.bisect_right(schedule.milestones, epoch)
    if isinstance(schedule, ExponentialConfig):
        stages = epoch / schedule.stage_epochs
        done = stages if schedule.is_continuous else math.floor(stages)
        return max(schedule.floor, schedule.factor**done)
    if isinstance(schedule, PlateauConfig):
        if epoch < schedule.warmup_epochs:
            return epoch / schedule.warmup_epochs
        return schedule.factor ** _count_drops(schedule, losses_nats[schedule.warmup_epochs :])
    if isinstance(schedule, WarmRestartsConfig):
        return _cosine(_place_in_cycle(schedule, epoch))
    warmup = schedule.warmup_fraction * epochs
    if epoch < warmup:
        return epoch / warmup
    return _cosine((epoch - warmup) / (epochs - warmup))


def _cosine(done: float) -> float:
    return (1 + math.cos(math.pi * done)) / 2


def _place_in_cycle(schedule: WarmRestartsConfig, epoch: float) -> float:
    start, length = 0, schedule.first_epochs
    while epoch >= start + length:
        start += length
        length *= schedule.growth
    return (epoch - start) / length


def _count_drops(schedule: PlateauConfig, losses_nats: Sequence[float]) -> int:
    """Count the drops as torch's ReduceLROnPlateau does, with its relative threshold and no cooldown."""
    lowest, waited, drops = math.inf, 0, 0
    for loss in losses_nats:
        if loss < lowest * (1 - schedule.threshold):
            lowest, waited = loss, 0
        else:
            waited += 1
        if waited > schedule.patience:
            drops, waited = drops + 1, 0
    return drops
