"""How to train, as settings. Imports no torch; the loop reads it, nothing here computes."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from ensemble.config import Config

Rate = Annotated[float, Field(gt=0, le=10)]
Decay = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class SgdConfig(Config):
    """Stochastic gradient descent with momentum."""

    kind: Literal["sgd"] = "sgd"
    """Which optimiser."""
    lr: Rate = 0.05
    """Peak learning rate; the schedule multiplies it."""
    momentum: Fraction = 0.9
    """Share of the last step that is kept."""
    nesterov: bool = True
    """Look ahead along the momentum."""
    weight_decay: Decay = 5e-4
    """L2 penalty, added to the gradient."""

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> "SgdConfig":
        if self.nesterov and self.momentum == 0:
            raise ValueError(
                "nesterov=true needs momentum > 0; set nesterov=false or momentum=0.9."
            )
        return self


class AdamWConfig(Config):
    """Adam with decoupled weight decay."""

    kind: Literal["adamw"] = "adamw"
    """Which optimiser."""
    lr: Rate = 2e-3
    """Peak learning rate; the schedule multiplies it."""
    beta1: Fraction = 0.9
    """Decay of the mean of the gradients."""
    beta2: Fraction = 0.999
    """Decay of the mean of their squares."""
    weight_decay: Decay = 0.05
    """Decay of the weights per step, times the learning rate."""


class ConstantConfig(Config):
    """The learning rate stays."""

    kind: Literal["constant"] = "constant"
    """Which schedule."""


class CosineConfig(Config):
    """Linear warm-up, then half a cosine down to zero."""

    kind: Literal["cosine"] = "cosine"
    """Which schedule."""
    warmup_fraction: Fraction = 0.15
    """Share of the epochs over which the rate rises from zero to its peak."""


class MultiStepConfig(Config):
    """The learning rate is multiplied by a factor at given epochs."""

    kind: Literal["multi_step"] = "multi_step"
    """Which schedule."""
    milestones: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    """Epochs, counted from 0, at whose start the rate drops; ascending."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """What the rate is multiplied by."""

    @model_validator(mode="after")
    def _milestones_ascend(self) -> "MultiStepConfig":
        if any(later <= earlier for earlier, later in pairwise(self.milestones)):
            raise ValueError(f"milestones {list(self.milestones)} must ascend; sort them.")
        return self


Optimizer = Annotated[SgdConfig | AdamWConfig, Field(discriminator="kind")]
Schedule = Annotated[ConstantConfig | CosineConfig | MultiStepConfig, Field(discriminator="kind")]


class AugmentationConfig(Config):
    """Random changes of each training image; uniform within the bounds, drawn anew each epoch."""

    max_shift: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Largest shift each way, as a fraction of the side; by whole pixels where nothing is rotated or zoomed.
    What comes in from outside is black."""
    max_rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 10.0
    """Largest rotation each way."""
    min_scale: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Smallest zoom; below 1 the content shrinks."""
    max_scale: Annotated[float, Field(ge=1, le=4)] = 1.1
    """Largest zoom."""
    flip_probability: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of images that are mirrored; 0 where left and right differ, as in digits."""


class RecipeConfig(Config):
    """How one network is trained from fresh weights."""

    input_size: Annotated[int, Field(ge=4, le=1024)] = 16
    """Side of the square input, in pixels; images are resized to it."""
    epochs: NonNegativeInt = 14
    """Passes over the training images; 0 leaves the weights as they are drawn, or given."""
    batch_size: Annotated[int, Field(ge=2)] = 16
    """Images in one step; at least 2, because batch normalisation needs a variance."""
    optimizer: Optimizer = SgdConfig()
    """What turns gradients into steps."""
    schedule: Schedule = CosineConfig()
    """How the learning rate moves over the epochs."""
    augmentation: AugmentationConfig | None = AugmentationConfig()
    """Random changes of the training images; null trains on them as they are."""
    label_smoothing: Fraction = 0.0
    """Share of the target that is spread evenly over all classes."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of convolutions and products of matrices while training; weights stay float32. On processors that
    compute in bfloat16 a step takes about half the time."""

    @model_validator(mode="after")
    def _schedule_fits_epochs(self) -> "RecipeConfig":
        if isinstance(self.schedule, MultiStepConfig):
            last = self.schedule.milestones[-1]
            if last >= self.epochs:
                raise ValueError(
                    f"schedule.milestones ends at {last}, which epochs={self.epochs} never "
                    "reaches; remove it or raise epochs."
                )
        return self
