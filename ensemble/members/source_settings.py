"""Where a member's weights come from, as settings, and the one-line form of each kind of source. No torch."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeInt, model_validator

from ensemble.config import AbsolutePath, Config, Place
from ensemble.errors import ConfigError
from ensemble.members.identity import dump_for_identity
from ensemble.models import registry as models


def _known_architecture(name: str) -> str:
    try:
        models.check(name)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return name


Architecture = Annotated[str, AfterValidator(_known_architecture)]

# Eight digits are enough to tell a wrong file, and as many as torchvision's file names have.
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")]


class CheckpointSource(Config):
    """Weights from a file."""

    kind: Literal["checkpoint"] = "checkpoint"
    path: Place
    """Path of a .safetensors or .pth file, or s3://bucket/key."""
    architecture: Architecture | None = None
    """Architecture that the weights belong to: a name of `ensemble.models`, or as torchvision/resnet50 or
    timm/resnet50. Not needed for a local file that this project wrote, whose header names it."""
    sha256: Sha256 | None = None
    """SHA-256 of the file, or its first 8 or more digits; not checked if not set."""


class TorchvisionSource(Config):
    """Weights that torchvision publishes: `torchvision:resnet50@IMAGENET1K_V2`."""

    kind: Literal["torchvision"] = "torchvision"
    name: str
    """Name of the architecture, as resnet50."""
    weights: str = "DEFAULT"
    """Name of the weights, as IMAGENET1K_V2; DEFAULT is the set that torchvision recommends."""
    sha256: Sha256 | None = None
    """SHA-256 of the file, or its first 8 or more digits; those in torchvision's file name if not set."""


class TimmSource(Config):
    """Weights that timm publishes: `timm:resnet50.a1_in1k`."""

    kind: Literal["timm"] = "timm"
    name: str
    """Names of the architecture and of the weights, as resnet50.a1_in1k."""
    sha256: Sha256 | None = None
    """SHA-256 of the file, or its first 8 or more digits; not checked if not set."""


class HubSource(Config):
    """A timm model in a repository of the Hugging Face hub: `hf-hub:org/name@revision`."""

    kind: Literal["hf-hub"] = "hf-hub"
    repository: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    """Name of the repository, as org/name."""
    revision: str = "main"
    """Commit, tag or branch of the repository; only a commit always means the same files."""
    sha256: Sha256 | None = None
    """SHA-256 of the file with the weights, or its first 8 or more digits; not checked if not set."""


class FactorySource(Config):
    """A function that returns the network with its weights: `factory:package.module:function`."""

    kind: Literal["factory"] = "factory"
    function: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
    """The function, as package.module:function; every process must be able to import it. It runs only if
    weights.trust_code is set."""


class Pt2Source(Config):
    """A program of torch.export: `pt2:model.pt2`."""

    kind: Literal["pt2"] = "pt2"
    path: AbsolutePath
    """Path of the .pt2 file. Torch unpickles it, so it is read only if weights.trust_code is set."""
    sha256: Sha256 | None = None
    """SHA-256 of the file, or its first 8 or more digits; not checked if not set."""


class OnnxSource(Config):
    """An ONNX graph, run by onnxruntime: `onnx:model.onnx`."""

    kind: Literal["onnx"] = "onnx"
    path: AbsolutePath
    """Path of the .onnx file, with the weights in it."""
    sha256: Sha256 | None = None
    """SHA-256 of the file, or its first 8 or more digits; not checked if not set."""


class ImportedSource(Config):
    """No weights: the predictions were computed elsewhere and imported."""

    kind: Literal["imported"] = "imported"


class MemberSource(Config):
    """Weights of another member of the pool, as it is trained or loaded: `member:NAME`."""

    kind: Literal["member"] = "member"
    name: str
    """Name of the member."""


class TakeConfig(Config):
    """Layers that are taken from weights of another architecture; the others are fresh.

    Layers with weights (convolutions, linear layers) are counted in the order in which the network has them, and a
    layer is taken with the normalisation that follows it.
    """

    first: NonNegativeInt = 0
    """Number of layers from the input on; each goes to the next layer of its shape, so that a deeper network may have
    others between."""
    last: NonNegativeInt = 0
    """Number of layers up to the head, with the head counted; the head itself is taken only where it fits."""

    @model_validator(mode="after")
    def _takes_something(self) -> "TakeConfig":
        if not self.first and not self.last:
            raise ValueError(
                "first and last are both 0, so nothing is taken; set one, as first: 4."
            )
        return self


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
_START_LINES = {kind: _LINES[kind] for kind in ("torchvision", "timm", "hf-hub", "checkpoint")} | {
    "member": (re.compile(r"(?P<name>.+)"), "member:NAME")
}


def _read_line(value: Any, lines: Mapping[str, tuple[re.Pattern[str], str]]) -> Any:
    """Return the mapping that a line stands for; a value that is no text is returned as it is."""
    if not isinstance(value, str):
        return value
    kind, _, rest = value.partition(":")
    pattern, _ = lines.get(kind, (None, ""))
    match = pattern.fullmatch(rest) if pattern else None
    if match is None:
        forms = ", ".join(form for _, form in lines.values())
        raise ValueError(f"cannot read the source {value!r}; expected one of {forms}.")
    return {"kind": kind, **{key: part for key, part in match.groupdict().items() if part}}


AnyStart = CheckpointSource | TorchvisionSource | TimmSource | HubSource | MemberSource

# An AnyStart by its `kind`, or a line.
Start = Annotated[
    AnyStart,
    Field(discriminator="kind"),
    BeforeValidator(
        lambda value: _read_line(value, _START_LINES), json_schema_input_type=AnyStart | str
    ),
]


class SeedsConfig(Config):
    """Seeds of parts of what a training draws, so that each can be changed alone; `seed` where one is not set.

    Where one is set, the order has a stream of its own, so that neither `seed` nor `augmentation` moves it.
    """

    start: NonNegativeInt | None = None
    """Seed of the fresh weights, or of a new head."""
    order: NonNegativeInt | None = None
    """Seed of the order of the images in each epoch."""
    augmentation: NonNegativeInt | None = None
    """Seed of the augmentation, and of all else that is drawn while training: crops, mixed images, dropout, noise."""

    @model_validator(mode="after")
    def _has_one(self) -> "SeedsConfig":
        if self.start is None and self.order is None and self.augmentation is None:
            raise ValueError("set start, order or augmentation, or leave seeds out.")
        return self


class RecipeSource(Config):
    """Weights that this project trains on the train split, kept by content."""

    kind: Literal["recipe"] = "recipe"
    architecture: Architecture | None = None
    """Name of one of the architectures of `ensemble.models`, as resnet20_cifar, with options behind it where it has
    any, as pyramidnet20:alpha=48,depth=110, or as torchvision/resnet50; that of `start` if not set."""
    recipe: str = "default"
    """Name of one of the config's `recipes`."""
    seed: NonNegativeInt = 0
    """Seed of the fresh weights, the order of the images and the augmentation."""
    seeds: SeedsConfig | None = None
    """Seeds of parts of these, in the place of `seed`."""
    start: Start | None = None
    """Weights that the training starts from, as `torchvision:resnet50@IMAGENET1K_V2`, `timm:NAME.TAG`,
    `hf-hub:ORG/NAME`, `checkpoint:PATH` or `member:NAME` of the same pool; fresh ones if not set. Images are
    preprocessed as these weights want it, unless the member's `preprocessing` says otherwise. The head is a new one
    where the data has another number of classes."""
    take: TakeConfig | None = None
    """Layers that are taken from `start`, which may then be of another architecture; all of them if not set."""
    new_head: bool = False
    """Train a new head also where `start` has as many outputs as the data has classes."""

    @model_validator(mode="after")
    def _has_architecture(self) -> "RecipeSource":
        if self.start is None and self.architecture is None:
            raise ValueError("set architecture, as resnet20_cifar, or start, as timm:NAME.TAG.")
        if self.start is None and (self.take or self.new_head):
            raise ValueError("take and new_head say what is taken from start; set start too.")
        if self.take and self.architecture is None:
            raise ValueError(
                "take is for a network other than that of start; set architecture too."
            )
        return self

    def identity(self) -> dict[str, Any]:
        """Return what of the source decides results; a source without `start` has the identity of older ones."""
        return dump_for_identity(self, ("start", "take", "new_head", "seeds"))


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

# An AnySource by its `kind`, or a line.
Source = Annotated[
    AnySource,
    Field(discriminator="kind"),
    BeforeValidator(
        lambda value: _read_line(value, _LINES), json_schema_input_type=AnySource | str
    ),
]


class WeightsConfig(Config):
    """Where published weights are looked for, and which files may run code. Changes no result."""

    mirror: AbsolutePath | None = None
    """Folder that holds the published files by name, so that nothing is downloaded; if not set, torchvision and timm
    download into their caches."""
    trust_code: bool = False
    """Accept members that bring code which runs here: factories, and .pt2 files, which torch unpickles."""
