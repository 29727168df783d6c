"""Where a member's weights come from, as settings, and the one-line form of each. Imports no torch."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeInt

from ensemble.config import AbsolutePath, Config, Place
from ensemble.errors import UnknownNameError
from ensemble.models import registry as models


def _known_architecture(name: str) -> str:
    try:
        models.check(name)
    except UnknownNameError as error:
        raise ValueError(str(error)) from error
    return name


Architecture = Annotated[str, AfterValidator(_known_architecture)]

# So many digits are enough to tell a wrong file; torchvision's file names carry eight.
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")]


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
    """Weights from a file."""

    kind: Literal["checkpoint"] = "checkpoint"
    path: Place
    """A .safetensors or .pth file, or s3://bucket/key; one that this project wrote says in its header what it is."""
    architecture: Architecture | None = None
    """Of a file from elsewhere: a name of ours, or as torchvision/resnet50 or timm/resnet50."""
    sha256: Sha256 | None = None
    """Of the file, or its first digits."""


class TorchvisionSource(Config):
    """Weights that torchvision publishes: `torchvision:resnet50@IMAGENET1K_V2`."""

    kind: Literal["torchvision"] = "torchvision"
    name: str
    """Of the architecture, as resnet50."""
    weights: str = "DEFAULT"
    """Name of the weights, as IMAGENET1K_V2."""
    sha256: Sha256 | None = None
    """Of the file, or its first digits."""


class TimmSource(Config):
    """Weights that timm publishes: `timm:resnet50.a1_in1k`."""

    kind: Literal["timm"] = "timm"
    name: str
    """Architecture and tag, as resnet50.a1_in1k."""
    sha256: Sha256 | None = None
    """Of the file, or its first digits."""


class HubSource(Config):
    """A timm model in a repository of the Hugging Face hub: `hf-hub:org/name@revision`."""

    kind: Literal["hf-hub"] = "hf-hub"
    repository: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    """As org/name."""
    revision: str = "main"
    """A commit, tag or branch; only a commit stays what it is."""
    sha256: Sha256 | None = None
    """Of the file with the weights, or its first digits."""


class FactorySource(Config):
    """A function that returns the network with its weights: `factory:package.module:function`."""

    kind: Literal["factory"] = "factory"
    function: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
    """As package.module:function, importable by every process; runs only if weights.trust_code is set."""


class Pt2Source(Config):
    """A program of torch.export: `pt2:model.pt2`."""

    kind: Literal["pt2"] = "pt2"
    path: AbsolutePath
    """The .pt2 file; torch unpickles it, so it is read only if weights.trust_code is set."""
    sha256: Sha256 | None = None
    """Of the file, or its first digits."""


class OnnxSource(Config):
    """An ONNX graph, run by onnxruntime: `onnx:model.onnx`."""

    kind: Literal["onnx"] = "onnx"
    path: AbsolutePath
    """The .onnx file, weights inside."""
    sha256: Sha256 | None = None
    """Of the file, or its first digits."""


class ImportedSource(Config):
    """No weights: predictions were computed elsewhere and imported."""

    kind: Literal["imported"] = "imported"


AnySource = (
    RecipeSource
    | CheckpointSource
    | TorchvisionSource
    | TimmSource
    | HubSource
    | FactorySource
    | Pt2Source
    | OnnxSource
    | ImportedSource
)

_LINES = {
    "torchvision": (re.compile(r"(?P<name>[^@]+)(@(?P<weights>.+))?"), "torchvision:NAME@WEIGHTS"),
    "timm": (re.compile(r"(?P<name>.+)"), "timm:NAME.TAG"),
    "hf-hub": (
        re.compile(r"(?P<repository>[^@]+)(@(?P<revision>.+))?"),
        "hf-hub:ORG/NAME@REVISION",
    ),
    "factory": (re.compile(r"(?P<function>.+)"), "factory:PACKAGE.MODULE:FUNCTION"),
    "pt2": (re.compile(r"(?P<path>.+)"), "pt2:PATH"),
    "onnx": (re.compile(r"(?P<path>.+)"), "onnx:PATH"),
    "checkpoint": (re.compile(r"(?P<path>.+)"), "checkpoint:PATH"),
}


def _read_line(value: Any) -> Any:
    """The mapping that a line stands for; anything else as it is."""
    if not isinstance(value, str):
        return value
    kind, _, rest = value.partition(":")
    pattern, _ = _LINES.get(kind, (None, ""))
    found = pattern.fullmatch(rest) if pattern else None
    if found is None:
        forms = ", ".join(form for _, form in _LINES.values())
        raise ValueError(f"cannot read the source {value!r}; expected one of {forms}.")
    return {"kind": kind, **{key: part for key, part in found.groupdict().items() if part}}


# An AnySource by its `kind`, or a line.
Source = Annotated[
    AnySource,
    Field(discriminator="kind"),
    BeforeValidator(_read_line, json_schema_input_type=AnySource | str),
]


class WeightsConfig(Config):
    """Where published weights are looked for, and what is trusted. Changes no result."""

    mirror: AbsolutePath | None = None
    """A folder with the files by name, and nothing is downloaded; libraries download into their caches if not set."""
    trust_code: bool = False
    """Accept members that run code of theirs: factories, and .pt2 files, which torch unpickles."""
