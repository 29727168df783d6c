"""A member: one classifier of the pool, as run. Settings and values only; `ensemble.models` builds networks."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_serializer,
    model_validator,
)

from ensemble.config import AbsolutePath, Config
from ensemble.errors import CheckpointError, ConfigError
from ensemble.sources.settings import Source
from ensemble.view_policies import list_views
from ensemble.view_settings import Views, keeps_views

# Architectures that run code which came with them; see `WeightsConfig.trust_code`.
CODE = ("factory", "pt2")

# Architectures whose arithmetic is inside their file, and stays as it was exported.
PROGRAMS = ("onnx", "pt2")

# Not allowed in a config's names, so that no member is called like another's view.
VIEW_MARK = "@"

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


@dataclass(frozen=True)
class Member:
    """A classifier whose weights are there.

    Attributes:
        name: What reports call it; not part of its identity.
        architecture: A name of `ensemble.models`, as torchvision/resnet50 of a library, or the
            kind of a program (onnx, pt2).
        classes: What each output stands for, as class indices of the data.
        checkpoint: The file with the weights.
        weights_sha256: Of that file.
        head: Name of the last linear layer, whose rows are the label embeddings; empty if there is
            none.
        parameters: How many there are.
        preprocessing: From pixels to input.
        views: Test-time views, averaged to one row an image.
        data_sha256: Identity of the image index that its column is about.
        seed: Of its training; none if somebody else trained it.
        precision: Of its weights and activations when it predicts.
        temperature: Of its probabilities in an average; no part of its identity, since its column
            holds them as they are.
    """

    name: str
    architecture: str
    classes: tuple[int, ...]
    checkpoint: Path
    weights_sha256: str
    head: str
    parameters: int
    preprocessing: Preprocessing
    views: Views
    data_sha256: str
    seed: int | None = None
    precision: Precision = "float32"
    temperature: float = 1.0

    @cached_property
    def column(self) -> str:
        """Identity of what this member computes: 16 hex digits.

        A rename keeps it; other weights, preprocessing, views, images or numeric libraries change it.
        """
        return fingerprint(self.identity)[:16]

    @property
    def pool_name(self) -> str:
        """Its name in the config, which its views share where each is a member of its own."""
        return self.name.partition(VIEW_MARK)[0]

    @property
    def identity(self) -> dict[str, object]:
        """What the column's fingerprint is made of."""
        return {
            "architecture": self.architecture,
            "classes": list(self.classes),
            "weights_sha256": self.weights_sha256,
            "preprocessing": self.preprocessing.model_dump(mode="json"),
            "views": self.views.model_dump(mode="json"),
            "precision": self.precision,
            "data_sha256": self.data_sha256,
            "libraries": library_versions(self.architecture),
        }


def library_versions(architecture: str) -> dict[str, str]:
    """Versions of the libraries that can change a forward pass by a bit or more."""
    extra = {"timm": "timm", "onnx": "onnxruntime"}.get(architecture.partition("/")[0])
    names = ("torch", "torchvision", *([extra] if extra else []))
    return {name: version(name) for name in names}


def load_member(
    name: str,
    checkpoint: Path,
    views: Views,
    data_sha256: str,
    *,
    trust_code: bool = False,
) -> Member:
    """A member from the header of its checkpoint; the weights are not loaded.

    Raises:
        CheckpointError: The file is missing, damaged, lacks what a member needs, or would run code
            that is not trusted.
    """
    # Here, because parsing a config must not pay for array libraries.
    from ensemble.training.header import file_sha256, read_metadata

    metadata = read_metadata(checkpoint)
    check_trust(f"the checkpoint {checkpoint}", metadata.get("architecture", ""), trust_code)
    try:
        return Member(
            name=name,
            architecture=metadata["architecture"],
            classes=tuple(json.loads(metadata["classes"])),
            checkpoint=checkpoint,
            weights_sha256=file_sha256(checkpoint),
            head=metadata["head"],
            parameters=int(metadata["parameters"]),
            preprocessing=Preprocessing.model_validate_json(metadata["preprocessing"]),
            views=views,
            data_sha256=data_sha256,
            seed=int(metadata["seed"]) if "seed" in metadata else None,
        )
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise CheckpointError(
            f"the checkpoint {checkpoint} of member {name!r} does not say what it is ({error!r}). "
            "Give a file that this project's training wrote."
        ) from error


def in_precision(member: Member, precision: Precision) -> Member:
    """The member with another precision of weights and activations.

    Raises:
        ConfigError: It is a program, whose precision cannot be changed.
    """
    if precision != "float32" and member.architecture in PROGRAMS:
        raise ConfigError(
            f"the member {member.name!r} is a program ({member.architecture}) and cannot be run in "
            f"{precision}: it takes float32 and computes in what it was exported in. Set "
            "precision: float32 for this member."
        )
    return replace(member, precision=precision)


def check_trust(what: str, architecture: str, trust_code: bool) -> None:
    """Refuse what runs code of its own, unless that is trusted.

    Raises:
        CheckpointError: It would run, and is not trusted.
    """
    if architecture.partition("/")[0] in CODE and not trust_code:
        raise CheckpointError(
            f"{what} runs code of its own ({architecture}), which is refused unless it is trusted. If "
            "you know who wrote it, set weights.trust_code=true; else give a .safetensors or .onnx."
        )


def split_views(member: Member) -> tuple[Member, ...]:
    """One member for each view where `keep_views` asks for it; otherwise the member itself.

    They share the checkpoint, and a host loads it once.
    """
    if not keeps_views(member.views):
        return (member,)
    return tuple(
        replace(member, name=name, views=view)
        for name, view in zip(
            view_names(member.name, member.views, member.preprocessing.size),
            list_views(member.views, member.preprocessing.size),
            strict=True,
        )
    )


def view_names(name: str, views: Views, size: int) -> tuple[str, ...]:
    """Names of the members that one of the pool stands for: itself, or NAME@VIEW for each view.

    Args:
        name: In the config.
        views: Its test-time views.
        size: Side of its input, in pixels.
    """
    if not keeps_views(views):
        return (name,)
    return tuple(f"{name}{VIEW_MARK}{view.label}" for view in list_views(views, size))


def fingerprint(value: object) -> str:
    """SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return sha256(text.encode()).hexdigest()
