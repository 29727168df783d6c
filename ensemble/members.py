"""A member: one classifier of the pool, as run. Settings and values only; `ensemble.models` builds networks."""

import json
from dataclasses import dataclass, replace
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
from ensemble.view_policies import list_views
from ensemble.view_settings import Views, keeps_views

# Libraries whose version can change a forward pass by a bit or more.
NUMERIC_LIBRARIES = ("torch", "torchvision")

# Not allowed in a config's names, so that no member is called like another's view.
VIEW_MARK = "@"


def _known_architecture(name: str) -> str:
    try:
        models.check(name)
    except UnknownNameError as error:
        raise ValueError(str(error)) from error
    return name


Architecture = Annotated[str, AfterValidator(_known_architecture)]


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


Source = Annotated[RecipeSource | CheckpointSource | ImportedSource, Field(discriminator="kind")]


class MemberConfig(Config):
    """One classifier of the pool."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    """What reports call it."""
    source: Source
    """Where its weights come from."""
    views: Views | None = None
    """Its test-time views; the pool's if not set."""


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
        views: Test-time views, averaged to one row an image.
        data_sha256: Identity of the image index that its column is about.
        seed: Of its training; none if somebody else trained it.
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
            "precision": "float32",
            "data_sha256": self.data_sha256,
            "libraries": {name: version(name) for name in NUMERIC_LIBRARIES},
        }


def load_member(name: str, checkpoint: Path, views: Views, data_sha256: str) -> Member:
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
