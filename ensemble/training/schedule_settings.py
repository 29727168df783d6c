"""Schedules of a learning rate, as settings. No torch."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from ensemble.config import Config
from ensemble.training.optimizer_settings import Fraction


class ConstantConfig(Config):
    """The learning rate stays at its peak."""

    kind: Literal["constant"] = "constant"
    """Name of the schedule."""


class CosineConfig(Config):
    """Linear warm-up, then half a cosine down to zero."""

    kind: Literal["cosine"] = "cosine"
    """Name of the schedule."""
    warmup_fraction: Fraction = 0.15
    """Share of the epochs over which the learning rate rises from zero to its peak."""


class MultiStepConfig(Config):
    """The learning rate is multiplied by a factor at certain epochs."""

    kind: Literal["multi_step"] = "multi_step"
    """Name of the schedule."""
    milestones: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    """Epochs at whose start the learning rate drops, counted from 0 and ascending."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Factor that the learning rate is multiplied by at each milestone."""

    @model_validator(mode="after")
    def _milestones_ascend(self) -> "MultiStepConfig":
        if any(later <= earlier for earlier, later in pairwise(self.milestones)):
            raise ValueError(f"milestones {list(self.milestones)} must ascend; sort them.")
        return self


class ExponentialConfig(Config):
    """The learning rate is multiplied by a factor after each stage, of one epoch if not set."""

    kind: Literal["exponential"] = "exponential"
    """Name of the schedule."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Factor that the learning rate is multiplied by after each stage."""
    stage_epochs: Annotated[float, Field(gt=0)] = 1.0
    """Epochs in a stage."""
    is_continuous: bool = False
    """Lower the rate at every step, by factor^(epochs / stage_epochs), and not at the end of a stage alone."""
    floor: Fraction = 0.0
    """Share of the peak that the rate does not fall below."""


class WarmRestartsConfig(Config):
    """Half a cosine down to zero in each cycle, and a restart at the peak after it.

    Source: Loshchilov, Hutter 2016 (SGDR).
    """

    kind: Literal["warm_restarts"] = "warm_restarts"
    """Name of the schedule."""
    first_epochs: PositiveInt = 10
    """Number of epochs in the first cycle."""
    growth: PositiveInt = 1
    """Factor of each cycle's length from that of the one before."""

    def ends(self, epochs: int) -> tuple[int, ...]:
        """List the epochs at which cycles end, up to the number of all epochs."""
        ends, length = [self.first_epochs], self.first_epochs
        while ends[-1] < epochs:
            length *= self.growth
            ends.append(ends[-1] + length)
        return tuple(end for end in ends if end <= epochs)


class PlateauConfig(Config):
    """The learning rate drops when the loss stops falling: that on the validation images where there are any."""

    kind: Literal["plateau"] = "plateau"
    """Name of the schedule."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Factor that the learning rate is multiplied by at each drop."""
    patience: NonNegativeInt = 5
    """Number of epochs without a lower loss after which the rate drops at the next one."""
    threshold: Annotated[float, Field(ge=0, lt=1)] = 1e-4
    """Share of the lowest loss by which a loss must be lower to count."""
    warmup_epochs: NonNegativeInt = 0
    """Number of epochs over which the learning rate rises in a line from zero to its peak; losses count after them."""


AnySchedule = (
    ConstantConfig
    | CosineConfig
    | MultiStepConfig
    | ExponentialConfig
    | WarmRestartsConfig
    | PlateauConfig
)
Schedule = Annotated[AnySchedule, Field(discriminator="kind")]
