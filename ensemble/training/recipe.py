"""How a network is trained, as settings. No torch."""

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from ensemble.config import Config
from ensemble.errors import UnknownNameError
from ensemble.members.identity import dump_for_identity

Rate = Annotated[float, Field(gt=0, le=10)]
Decay = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class SgdConfig(Config):
    """Stochastic gradient descent with momentum."""

    kind: Literal["sgd"] = "sgd"
    """Name of the optimiser."""
    lr: Rate = 0.05
    """Peak learning rate, which the schedule multiplies by a factor from 0 to 1."""
    momentum: Fraction = 0.9
    """Share of the last step that the next one keeps."""
    nesterov: bool = True
    """Use Nesterov's momentum, whose gradient is taken one step ahead."""
    weight_decay: Decay = 5e-4
    """Factor of the weights that is added to their gradient, an L2 penalty."""

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
    """Name of the optimiser."""
    lr: Rate = 2e-3
    """Peak learning rate, which the schedule multiplies by a factor from 0 to 1."""
    beta1: Fraction = 0.9
    """Decay, per step, of the running mean of the gradients."""
    beta2: Fraction = 0.999
    """Decay, per step, of the running mean of the squared gradients."""
    weight_decay: Decay = 0.05
    """Share by which a step shrinks the weights, before it is multiplied by the learning rate."""


class NamedOptimizerConfig(Config):
    """Any optimiser of timm's list, which has torch's too, by its name."""

    kind: Literal["timm"] = "timm"
    """Name of the list."""
    name: str
    """Name of the optimiser, as lamb, lion, nadam, adadelta or muon."""
    lr: Rate
    """Peak learning rate, which the schedule multiplies by a factor from 0 to 1."""
    weight_decay: Decay = 0.0
    """Weight decay, as the optimiser understands it."""
    options: dict[str, float | bool | tuple[float, ...]] = Field(default_factory=dict)
    """Further arguments of the optimiser, by name."""

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        # Only here: the import takes seconds.
        from timm.optim import list_optimizers

        # A wrapper around another optimiser keeps a state that no checkpoint of this project holds.
        names = [known for known in list_optimizers() if not known.startswith("lookahead")]
        if name not in names:
            raise ValueError(str(UnknownNameError.of("optimiser", name, names)))
        return name


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
    """The learning rate is multiplied by a factor after each epoch."""

    kind: Literal["exponential"] = "exponential"
    """Name of the schedule."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Factor that the learning rate is multiplied by after each epoch."""


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


Optimizer = Annotated[SgdConfig | AdamWConfig | NamedOptimizerConfig, Field(discriminator="kind")]
AnySchedule = (
    ConstantConfig
    | CosineConfig
    | MultiStepConfig
    | ExponentialConfig
    | WarmRestartsConfig
    | PlateauConfig
)
Schedule = Annotated[AnySchedule, Field(discriminator="kind")]


class ValidationConfig(Config):
    """Images of the train split that are not trained on; each epoch is judged on them."""

    share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of each class's images that is held out, at least one of each."""
    patience: PositiveInt | None = None
    """Number of epochs without fewer errors, or a lower loss, after which the training ends; all epochs if not set."""
    weights: Literal["best", "last"] = "best"
    """Weights that the member has: those of the epoch that did best, or the last ones."""


class SnapshotsConfig(Config):
    """Weights of earlier epochs that become members of the pool too, as `name#1` and further.

    Source: Huang et al. 2017 (Snapshot Ensembles).
    """

    at: Literal["restarts"] | None = None
    """Take one at the end of each cycle of the schedule warm_restarts but the last."""
    last: NonNegativeInt = 0
    """Take those of so many epochs before the last one."""

    @model_validator(mode="after")
    def _has_one_kind(self) -> "SnapshotsConfig":
        if bool(self.at) == bool(self.last):
            raise ValueError("set either at: restarts, or last: to a number of epochs.")
        return self


class ColourConfig(Config):
    """Random changes of each training image's colours, uniform within the bounds and drawn anew in each epoch."""

    brightness: Fraction = 0.0
    """Largest change of the brightness, as a share of it."""
    contrast: Fraction = 0.0
    """Largest change of the contrast, as a share of it."""
    saturation: Fraction = 0.0
    """Largest change of the saturation, as a share of it."""


class ErasingConfig(Config):
    """A random rectangle of an image that becomes the mean colour.

    Source: Zhong et al. 2017 (Random Erasing).
    """

    probability: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Probability that an image loses a rectangle."""
    min_area: Annotated[float, Field(gt=0, lt=1)] = 0.02
    """Smallest area of the rectangle, as a fraction of the image's."""
    max_area: Annotated[float, Field(gt=0, lt=1)] = 0.33
    """Largest area of the rectangle, as a fraction of the image's."""


class AugmentationConfig(Config):
    """Random changes of each training image, uniform within the bounds and drawn anew in each epoch."""

    max_shift: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Largest shift in each direction, as a fraction of the side. Images move by whole pixels where they are neither
    rotated nor zoomed; what comes in from outside is black."""
    max_rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 10.0
    """Largest rotation in either direction, in degrees."""
    min_scale: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Smallest factor that the content is zoomed by; below 1 it shrinks."""
    max_scale: Annotated[float, Field(ge=1, le=4)] = 1.1
    """Largest factor that the content is zoomed by; above 1 it grows."""
    flip_probability: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Probability that an image is mirrored; 0 where left and right differ, as in digits."""


class RandomCropConfig(Config):
    """A square of the input's size at a random place of the image, resized to a short side."""

    kind: Literal["random_crop"] = "random_crop"
    """Name of the crop."""
    short_side: PositiveInt | tuple[PositiveInt, PositiveInt] = 256
    """Short side that images are resized to before, in pixels; or two, between which it is drawn anew each time
    (scale jittering)."""

    @model_validator(mode="after")
    def _ascends(self) -> "RandomCropConfig":
        low, high = self.short_sides
        if low > high:
            raise ValueError(f"short_side [{low}, {high}] must ascend; exchange them.")
        return self

    def check_size(self, size: int) -> None:
        """Refuse a short side that has no room for the input.

        Raises:
            ValueError: The smallest short side is less than the side of the input.
        """
        if self.short_sides[0] < size:
            raise ValueError(
                f"crop.short_side {self.short_sides[0]} is less than the input's {size} pixels, which cannot be "
                f"cut out of it; set {size} or more."
            )

    @property
    def short_sides(self) -> tuple[int, int]:
        """Smallest and largest short side, in pixels."""
        return self.short_side if isinstance(self.short_side, tuple) else (self.short_side,) * 2


class RandomResizedCropConfig(Config):
    """A random part of the image, of random area and aspect ratio, resized to the input's square."""

    kind: Literal["random_resized_crop"] = "random_resized_crop"
    """Name of the crop."""
    min_area: Annotated[float, Field(gt=0, le=1)] = 0.08
    """Smallest area of the part, as a fraction of the image's."""
    max_area: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Largest area of the part, as a fraction of the image's."""
    max_ratio: Annotated[float, Field(ge=1, le=10)] = 4 / 3
    """Largest ratio of the part's sides, either way."""

    @model_validator(mode="after")
    def _ascends(self) -> "RandomResizedCropConfig":
        if self.min_area > self.max_area:
            raise ValueError(
                f"min_area={self.min_area} is above max_area={self.max_area}; exchange them."
            )
        return self


Crop = Annotated[RandomCropConfig | RandomResizedCropConfig, Field(discriminator="kind")]


# Settings that came after the first recipes, which keep their identity without them.
_LATER = (
    "crop",
    "colour",
    "erasing",
    "mixup",
    "cutmix",
    "accumulation",
    "clip_norm",
    "sam_rho",
    "validation",
    "ema",
    "snapshots",
    "head_only",
    "freeze_epochs",
    "layer_decay",
)


class RecipeConfig(Config):
    """How one network is trained."""

    input_size: Annotated[int, Field(ge=4, le=1024)] = 16
    """Side of the square input, in pixels; images are resized to it. A member with `start` has the size of these
    weights, or that of its `preprocessing`, instead."""
    epochs: NonNegativeInt = 14
    """Number of passes over the training images; 0 leaves the initial weights as they are."""
    batch_size: Annotated[int, Field(ge=2)] = 16
    """Number of images in one step; at least 2, because batch normalisation needs a variance."""
    optimizer: Optimizer = SgdConfig()
    """Optimiser, and its settings."""
    schedule: Schedule = CosineConfig()
    """Schedule of the learning rate over the epochs."""
    augmentation: AugmentationConfig | None = AugmentationConfig()
    """Random changes of the training images; null trains on them as they are."""
    crop: Crop | None = None
    """Part of a photograph that is trained on, drawn anew in each epoch and before `augmentation`; the part that is
    predicted if not set: the centre, or the whole image stretched to the square."""
    label_smoothing: Fraction = 0.0
    """Share of the target probability that is spread evenly over all classes."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of convolutions and matrix products while training; weights stay float32. A step in bfloat16 takes
    about half the time on processors that have instructions for it."""

    colour: ColourConfig | None = None
    """Random changes of the colours."""
    erasing: ErasingConfig | None = None
    """Random rectangles that are erased."""
    mixup: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Parameter of the Beta distribution that Mixup draws the shares of two mixed images from; 0 mixes none."""
    cutmix: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Parameter of the Beta distribution that CutMix draws the area of an inserted image from; 0 inserts none. Where
    mixup is set too, each batch has one of both at random."""
    accumulation: PositiveInt = 1
    """Number of batches whose gradients are summed before the weights change."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest norm of all gradients together; larger ones are scaled down to it."""
    sam_rho: Annotated[float, Field(gt=0, le=1)] | None = None
    """Radius of sharpness-aware minimisation, as 0.05: the gradient is taken where the loss is greatest nearby, at
    twice the cost. Not used if not set. Source: Foret et al. 2020."""
    validation: ValidationConfig | None = None
    """Images that each epoch is judged on, and what follows from it; none if not set."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay, per step, of an average of the weights, as 0.999; the averaged network becomes a member too, as
    `name#ema`."""
    snapshots: SnapshotsConfig | None = None
    """Weights of earlier epochs that become members too."""
    head_only: bool = False
    """Train the head alone: what the rest of the network makes of each image is computed once and kept, so that a
    head is trained in seconds. For members with `start`; images are not augmented."""
    freeze_epochs: NonNegativeInt = 0
    """Number of epochs at the beginning in which only the head is trained, so that a fresh one does not spoil the
    weights of `start`."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Factor of the learning rate from each twelfth of the layers to the one before it, as 0.75: the nearer a layer
    is to the input, the less it is changed."""

    def identity(self) -> dict[str, Any]:
        """Return what decides the trained weights; later settings count only where they are used."""
        return dump_for_identity(self, _LATER)

    @model_validator(mode="after")
    def _freezes_within_epochs(self) -> "RecipeConfig":
        if self.freeze_epochs > self.epochs:
            raise ValueError(
                f"freeze_epochs={self.freeze_epochs} is more than epochs={self.epochs}; lower it, or set "
                "head_only=true to train no other layer."
            )
        if self.head_only and (self.freeze_epochs or self.layer_decay != 1):
            raise ValueError(
                "head_only=true trains no layer but the head; leave out freeze_epochs and layer_decay."
            )
        return self

    @property
    def snapshot_epochs(self) -> tuple[int, ...]:
        """Number of epochs behind each snapshot, ascending."""
        if self.snapshots is None:
            return ()
        if isinstance(self.schedule, WarmRestartsConfig) and self.snapshots.at:
            return tuple(end for end in self.schedule.ends(self.epochs) if end < self.epochs)
        return tuple(range(max(1, self.epochs - self.snapshots.last), self.epochs))

    @property
    def extra_names(self) -> tuple[str, ...]:
        """Names, behind the member's own, of the members that a training gives for nothing."""
        numbers = range(1, len(self.snapshot_epochs) + 1)
        return (*(f"#{number}" for number in numbers), *(("#ema",) if self.ema else ()))

    @model_validator(mode="after")
    def _gives_its_extras(self) -> "RecipeConfig":
        if (
            self.snapshots
            and self.snapshots.at
            and not isinstance(self.schedule, WarmRestartsConfig)
        ):
            raise ValueError(
                f"snapshots.at=restarts needs schedule: {{kind: warm_restarts}}, and it is {self.schedule.kind}; "
                "set it, or snapshots.last."
            )
        if self.snapshots and self.validation and self.validation.patience:
            raise ValueError(
                "snapshots count on all epochs, and validation.patience may end the training before; leave one out."
            )
        if self.head_only and (self.ema or self.snapshots):
            raise ValueError(
                "head_only=true trains no second network; leave out ema and snapshots."
            )
        return self

    @model_validator(mode="after")
    def _has_room_for_input(self) -> "RecipeConfig":
        if isinstance(self.crop, RandomCropConfig):
            self.crop.check_size(self.input_size)
        return self

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
