"""ensemble / members / settings: say here what this file is responsible for."""

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
    """What turns pixels into a network's input. Belongs to the weights and is stored with them."""

    size: PositiveInt
    """Side of the square input, in pixels."""
    mean: Channels
    """Subtracted from each channel, in [0, 1]."""
    std: PositiveChannels
    """Divides each channel."""
    resize: PositiveInt | None = None
    """Short side that an image is resized to before its centre is cut out; stretched to the square if not set."""
    interpolation: Interpolation = "bilinear"
    """How it is resized, with antialiasing."""


class PreprocessingConfig(Config):
    """What is said of a member's preprocessing; the rest comes with its weights."""

    size: PositiveInt | None = None
    """Side of the square input, in pixels."""
    mean: Channels | None = None
    """Subtracted from each channel, in [0, 1]."""
    std: PositiveChannels | None = None
    """Divides each channel."""
    resize: PositiveInt | None = None
    """Short side to resize to before the centre is cut out; null stretches the image to the square."""
    interpolation: Interpolation | None = None
    """How it is resized, with antialiasing."""

    @model_serializer(mode="wrap")
    def _dump_what_was_said(self, dump: Callable[[object], dict[str, Any]]) -> dict[str, Any]:
        # Read again, a null would be something that was said, and win over the weights' own.
        return {key: value for key, value in dump(self).items() if key in self.model_fields_set}


class Reference(Config):
    """A member's published figures, which the preflight holds it to."""

    top1_error: Annotated[float, Field(ge=0, le=100)]
    """In %."""
    top5_error: Annotated[float, Field(ge=0, le=100)] | None = None
    """In %; not above that of top 1."""

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
    """What reports call it."""
    source: Source
    """Where its weights come from: a mapping with `kind`, or a line as `torchvision:resnet50@IMAGENET1K_V2`."""
    views: Views | None = None
    """Its test-time views; the pool's if not set."""
    preprocessing: PreprocessingConfig | None = None
    """What differs from the preprocessing that comes with the weights, or all of it where none does."""
    label_map: Literal["background_first"] | AbsolutePath | None = None
    """What its outputs stand for, if not the data's classes in order: a text file with the wnid or
    name of each output on a line of its own, or `background_first` to drop the first of 1001."""
    reference: Reference | None = None
    """Its published figures of a single crop, for `ensemble members` and the preflight."""
    precision: Precision | None = None
    """Of its weights and activations; the pool's if not set."""
