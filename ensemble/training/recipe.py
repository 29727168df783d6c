"""How a network is trained, as settings. No torch."""

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from ensemble.config import AbsolutePath, Config
from ensemble.members.identity import dump_for_identity
from ensemble.training.augmentation_settings import (
    AugmentationConfig,
    ColourConfig,
    CopiesConfig,
    Crop,
    ErasingConfig,
    NoiseConfig,
    RandomCropConfig,
)
from ensemble.training.optimizer_settings import Fraction, Optimizer, SgdConfig
from ensemble.training.schedule_settings import (
    CosineConfig,
    MultiStepConfig,
    Schedule,
    WarmRestartsConfig,
)


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


class SoftLabelsConfig(Config):
    """Probabilities that an ensemble gave augmented views of the training images, in place of labels.

    `ensemble distil` makes the folder. The views are trained on as they are, so that a network sees what the ensemble
    saw: `crop`, `augmentation` and `colour` were part of the views, and what no view can hold (`erasing`, `mixup`,
    `cutmix`, `noise_sd`, `label_smoothing`) is not used.
    """

    path: AbsolutePath
    """Folder with the views and the probabilities."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Identity of what is in the folder."""


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
    "noise_sd",
    "soft_labels",
    "noise",
    "copies",
    "compile",
    "colour.pca_sd",
    "optimizer.rule",
    "schedule.stage_epochs",
    "schedule.is_continuous",
    "schedule.floor",
    "schedule.warmup_epochs",
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
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of convolutions and matrix products while training; weights stay float32. A step in bfloat16 takes
    about half the time on processors that have instructions for it. float16 is for GPUs that lack these: gradients
    are scaled, and each step waits for the GPU to see whether they overflowed, in which case it changes no weights."""
    compile: bool = False
    """Compile the network with torch.compile, which takes a minute or more at the beginning; worth it for long
    trainings. On a CPU it needs a C++ compiler."""

    colour: ColourConfig | None = None
    """Random changes of the colours."""
    erasing: ErasingConfig | None = None
    """Random rectangles that are erased."""
    noise_sd: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Standard deviation of Gaussian noise that is added to each pixel of a training image, in units of the channel's
    standard deviation; 0 for none."""
    noise: NoiseConfig | None = None
    """Gaussian noise on weights, gradients and activations; none if not set."""
    copies: CopiesConfig | None = None
    """Scaled and rotated copies of the training images, drawn once, which are trained on like further images; none if
    not set. For small images, which lie in memory."""
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

    soft_labels: SoftLabelsConfig | None = None
    """What an ensemble says of the training images, to train on in place of their labels; labels if not set."""

    def identity(self) -> dict[str, Any]:
        """Return what decides the trained weights; later settings count only where they are used."""
        document = dump_for_identity(self, _LATER)
        if self.soft_labels is not None:
            document["soft_labels"] = self.soft_labels.sha256  # wherever the folder lies
        return document

    def for_soft_labels(self) -> "RecipeConfig":
        """Leave out every change of images and labels: the ensemble answered the views as they are."""
        unchanged = {"augmentation": None, "crop": None, "colour": None, "erasing": None}
        return self.model_copy(
            update=unchanged
            | {"mixup": 0.0, "cutmix": 0.0, "noise_sd": 0.0, "label_smoothing": 0.0}
        )

    @model_validator(mode="after")
    def _sees_views(self) -> "RecipeConfig":
        if self.head_only and self.soft_labels:
            raise ValueError(
                "head_only=true computes what the network makes of each image once, and soft_labels belong to "
                "several views of it; leave one out."
            )
        return self

    @model_validator(mode="after")
    def _compiles_what_stays(self) -> "RecipeConfig":
        if self.compile and self.noise and self.noise.activations:
            raise ValueError(
                "noise.activations is added between the layers, and compile=true makes one program of them; leave "
                "one out."
            )
        return self

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
    def _copies_small_images(self) -> "RecipeConfig":
        others = (self.crop, self.soft_labels, self.head_only or None)
        if self.copies is not None and any(other is not None for other in others):
            raise ValueError(
                "copies are of small images with labels, which are neither cropped nor trained on for the head alone; "
                "leave out copies, or crop, soft_labels and head_only."
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
