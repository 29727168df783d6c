"""A member: one classifier of the pool, as run. Settings and values only; `ensemble.models` builds networks."""

import json
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

from ensemble import models
from ensemble.config import AbsolutePath, Config
from ensemble.errors import CheckpointError, UnknownNameError

# Libraries whose version can change a forward pass by a bit or more.
NUMERIC_LIBRARIES = ("torch", "torchvision")


def _known_architecture(name: str) -> str:
    try:
        models.check(name)
    except UnknownNameError as error:
        raise ValueError(str(error)) from error
    return name


Architecture = Annotated[str, AfterValidator(_known_architecture)]


class CenterView(Config):
    """The image as it is, once."""

    kind: Literal["center"] = "center"


class ShiftsAndScales(Config):
    """The image as it is, shifted in four directions, and at other scales; for images that must not be flipped."""

    kind: Literal["shifts_and_scales"] = "shifts_and_scales"
    shift: NonNegativeInt = 1
    """Pixels of the network's input that the image is moved left, right, up and down; 0 for none."""
    scales: tuple[PositiveFloat, ...] = ()
    """Further scales around the centre, e.g. [0.9, 1.1]."""


Views = Annotated[CenterView | ShiftsAndScales, Field(discriminator="kind")]


@dataclass(frozen=True)
class View:
    """One test-time transform: a move in pixels of the input, and a scale around the centre."""

    right: int = 0
    down: int = 0
    scale: float = 1.0


def list_views(views: CenterView | ShiftsAndScales) -> tuple[View, ...]:
    """The single transforms that a setting stands for; the untouched image comes first."""
    listed = [View()]
    if isinstance(views, ShiftsAndScales):
        if views.shift:
            moves = ((-views.shift, 0), (views.shift, 0), (0, -views.shift), (0, views.shift))
            listed += [View(right, down) for right, down in moves]
        listed += [View(scale=scale) for scale in views.scales]
    return tuple(listed)


class RecipeSource(Config):
    """Weights that this project trains on the train split, kept by content."""

    kind: Literal["recipe"] = "recipe"
    architecture: Architecture
    """A name of `ensemble.models`."""
    recipe: str = "default"
    """A name of the config's `recipes`."""
    seed: NonNegativeInt = 0
    """Tells members apart that differ in nothing else."""


class CheckpointSource(Config):
    """Weights from a file that this project's training wrote."""

    kind: Literal["checkpoint"] = "checkpoint"
    path: AbsolutePath
    """A .safetensors file; its header holds the architecture and the preprocessing."""


class ImportedSource(Config):
    """No weights: predictions were computed elsewhere and imported."""

    kind: Literal["imported"] = "imported"


Precision = Literal["float32", "bfloat16", "float16"]

Source = Annotated[RecipeSource | CheckpointSource | ImportedSource, Field(discriminator="kind")]


class MemberConfig(Config):
    """One classifier of the pool."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    """What reports call it."""
    source: Source
    """Where its weights come from."""
    views: Views | None = None
    """Its test-time views; the pool's if not set."""
    precision: Precision | None = None
    """Of its weights and activations; the pool's if not set."""


Interpolation = Literal["bilinear", "bicubic"]


class Preprocessing(Config):
    """What turns pixels into a network's input. Belongs to the weights and is stored with them."""

    size: PositiveInt
    """Side of the square input, in pixels."""
    mean: tuple[float, float, float]
    """Subtracted from each channel, in [0, 1]."""
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat]
    """Divides each channel."""
    resize: PositiveInt | None = None
    """Short side that an image is resized to before its centre is cut out; stretched to the square if not set."""
    interpolation: Interpolation = "bilinear"
    """How it is resized, with antialiasing."""


@dataclass(frozen=True)
class Member:
    """A classifier whose weights are there.

    Attributes:
        name: What reports call it; not part of its identity.
        architecture: A name of `ensemble.models`.
        classes: What each output stands for, as class indices of the data.
        checkpoint: The file with the weights.
        weights_sha256: Of that file.
        head: Name of the last linear layer, whose rows are the label embeddings.
        parameters: How many there are.
        preprocessing: From pixels to input.
        views: Test-time views; their softmax outputs are averaged.
        data_sha256: Identity of the image index that its column is about.
        seed: Of its training; none if somebody else trained it.
        precision: Of its weights and activations when it predicts.
    """

    name: str
    architecture: str
    classes: tuple[int, ...]
    checkpoint: Path
    weights_sha256: str
    head: str
    parameters: int
    preprocessing: Preprocessing
    views: CenterView | ShiftsAndScales
    data_sha256: str
    seed: int | None = None
    precision: Precision = "float32"

    @cached_property
    def column(self) -> str:
        """Identity of what this member computes: 16 hex digits.

        A rename keeps it; other weights, preprocessing, views, images or numeric libraries change it.
        """
        return fingerprint(self.identity)[:16]

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
            "libraries": {name: version(name) for name in NUMERIC_LIBRARIES},
        }


def load_member(
    name: str, checkpoint: Path, views: CenterView | ShiftsAndScales, data_sha256: str
) -> Member:
    """A member from the header of its checkpoint; the weights are not loaded.

    Raises:
        CheckpointError: The file is missing, damaged, or lacks what a member needs.
    """
    # Here, because parsing a config must not pay for array libraries.
    from ensemble.training.header import file_sha256, read_metadata

    metadata = read_metadata(checkpoint)
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


def fingerprint(value: object) -> str:
    """SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return sha256(text.encode()).hexdigest()
