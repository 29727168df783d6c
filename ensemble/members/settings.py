"""Settings of one classifier of the pool, of its preprocessing and of its published errors. No torch."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    model_serializer,
    model_validator,
)

from ensemble.config import AbsolutePath, Config
from ensemble.members.source_settings import Source
from ensemble.views.settings import Views

Interpolation = Literal["bilinear", "bicubic"]
Precision = Literal["float32", "bfloat16", "float16"]
Channels = tuple[float, float, float]
PositiveChannels = tuple[PositiveFloat, PositiveFloat, PositiveFloat]


class Preprocessing(Config):
    """How pixels become a network's input. It belongs to the weights and is stored with them."""

    size: PositiveInt
    """Side of the square input, in pixels."""
    mean: Channels
    """Mean of each channel, which is subtracted; pixels are in [0, 1]."""
    std: PositiveChannels
    """Standard deviation of each channel, which is divided by."""
    resize: PositiveInt | None = None
    """Short side, in pixels, that the image is resized to before the centre is cut out; if not set, the whole image
    is stretched to the square."""
    interpolation: Interpolation = "bilinear"
    """Interpolation that the image is resized with, antialiased."""


class PreprocessingConfig(Config):
    """What the config sets of a member's preprocessing; the rest comes with its weights."""

    size: PositiveInt | None = None
    """Side of the square input, in pixels."""
    mean: Channels | None = None
    """Mean of each channel, which is subtracted; pixels are in [0, 1]."""
    std: PositiveChannels | None = None
    """Standard deviation of each channel, which is divided by."""
    resize: PositiveInt | None = None
    """Short side, in pixels, that the image is resized to before the centre is cut out; null stretches the whole
    image to the square."""
    interpolation: Interpolation | None = None
    """Interpolation that the image is resized with, antialiased."""

    @model_serializer(mode="wrap")
    def _dump_set_fields(self, dump: Callable[[object], dict[str, Any]]) -> dict[str, Any]:
        # A null that was dumped would count as set when it is read, and win over the weights' own.
        return {key: value for key, value in dump(self).items() if key in self.model_fields_set}


def put_onto(preprocessing: Preprocessing, settings: PreprocessingConfig) -> Preprocessing:
    """Put what the config sets of a preprocessing onto that which comes with the weights."""
    # Null is a setting of resize: it means to stretch. So what is set counts, and not what is not null.
    update = {name: getattr(settings, name) for name in settings.model_fields_set}
    return preprocessing.model_copy(update=update)


class Reference(Config):
    """A member's published errors, which the preflight compares its own with."""

    top1_error: Annotated[float, Field(ge=0, le=100)]
    """Published top-1 error, in %."""
    top5_error: Annotated[float, Field(ge=0, le=100)] | None = None
    """Published top-5 error, in %; not above the top-1 error."""

    @model_validator(mode="after")
    def _check_order(self) -> "Reference":
        if self.top5_error is not None and self.top5_error > self.top1_error:
            raise ValueError(
                f"top5_error {self.top5_error:g} is above top1_error {self.top1_error:g}; who errs among "
                "five errs with the first. Are they accuracies, or exchanged?"
            )
        return self


class MemberConfig(Config):
    """One classifier of the pool."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    """Name of the member in reports and tables, of letters, digits, dots, dashes and underscores."""
    source: Source
    """Where the weights come from: a mapping with `kind`, or one line, as `torchvision:resnet50@IMAGENET1K_V2`."""
    views: Views | None = None
    """Test-time views of the member; the config's `views` if not set."""
    preprocessing: PreprocessingConfig | None = None
    """What differs from the preprocessing that comes with the weights; all of it where none comes with them."""
    label_map: Literal["background_first"] | AbsolutePath | None = None
    """What the network's outputs stand for, where they are not the data's classes in order: a text file with the
    WordNet id or name of each output on a line of its own, or `background_first` to drop the first of 1001 outputs."""
    reference: Reference | None = None
    """Published errors of the member under a single crop, for `ensemble members` and the preflight."""
    precision: Precision | None = None
    """Precision of the weights and activations; the config's `precision` if not set."""
