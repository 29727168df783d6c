"""The settings of a study: a base, and stages of variants of it. Imports neither torch nor ray."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from cluster.settings import ClusterConfig
from ensemble.config import Config, check, full_words, load, read_settings
from ensemble.errors import UnknownNameError
from ensemble.members.identity import dump_for_identity, fingerprint
from ensemble.members.source_settings import Architecture, TakeConfig
from ensemble.search.settings import SearchConfig
from ensemble.table.settings import TableConfig
from ensemble.training.settings import TrainingConfig
from ensemble.views.settings import CenterView, Views
from jobs.settings import ImagesConfig

SHIPPED = Path(__file__).parents[1] / "configs" / "studies"
# Settings that change how a study computes, or that its scale has put in place already.
_EXECUTION_ONLY = {"name", "runs", "training", "cluster", "scales"}
# Settings of a variant that came after the first studies, whose names do not change without them.
_LATER = ("network", "start", "take", "views", "adds_validation")
# The same of a stage and of the study.
_LATER_OF_STAGE, _LATER_OF_STUDY = (
    ("subclassifiers", "averages"),
    ("search", "groups", "k", "pretraining"),
)
# The name, in place of a row's, of weights that no other row has.
FRESH = "fresh"
# The name, in place of a row's, of networks that are trained on other images first.
PRETRAINED = "pretrained"
_NOT_IN_NAMES, _STEM_LENGTH = re.compile(r"[^A-Za-z0-9_-]+"), 23

# The names of a stage, a row and a seed are put together to that of a member, of 64 characters at most.
StageName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,19}$")]
RowName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$")]


class VariantConfig(Config):
    """A network and how it is trained, or what differs from the base."""

    architecture: Architecture | None = None
    """Name of an architecture, as resnet20_cifar; that of the base if not set."""
    recipe: dict[str, Any] = Field(default_factory=dict)
    """Settings of the recipe that differ from the base's. A group with a `kind` of its own, as
    `optimizer: {kind: adamw}`, replaces the base's."""
    network: dict[str, bool | int | float | str | tuple[int, ...]] = Field(default_factory=dict)
    """Options of the architecture that differ from the base's, as `depth: 110`; those of the base do not hold for
    another architecture."""
    start: str | None = None
    """Name of a row of the same stage, or base, whose trained weights each network starts from, seed by seed; `fresh`
    for fresh ones, and `pretrained` for those of the study's `pretraining`. As the base starts if not set."""
    take: TakeConfig | None = None
    """Layers that are taken from `start`, whose architecture may then be another; all of them if not set."""
    views: Views | None = None
    """Test-time views; those of the study, or the base, if not set."""
    adds_validation: bool = False
    """Train on the images of the validation split too. The row is judged on the test split alone and cannot win."""

    @model_validator(mode="after")
    def _takes_from_somewhere(self) -> Self:
        if self.take and self.start in (None, FRESH):
            raise ValueError("take says what is taken from start; set start to the name of a row.")
        return self


class ClustersConfig(Config):
    """Sub-classifiers over label clusters of each seed's base, as rows that are compared with it."""

    num_clusters: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1)]
    """Numbers of label clusters, each a row: the base of each seed with a network fine-tuned for each label cluster."""
    recipe: dict[str, Any] = Field(default_factory=dict)
    """Settings of the fine-tuning that differ from the base's recipe."""
    patience: PositiveInt | None = None
    """Number of epochs without a gain on half of the validation images after which fine-tuning ends; the threshold of
    the gate is then chosen on the other half. All epochs, and all images for the gate, if not set."""
    control: bool = True
    """Whether to train the base for as long on all classes too, as the row base-trained-on."""


class StageConfig(Config):
    """Variants that are compared with one base."""

    name: StageName
    """Name of the stage, of at most 20 letters, digits, dashes and underscores."""
    variants: dict[RowName, VariantConfig] = Field(default_factory=dict)
    """Variants, by name."""
    grid: dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = Field(default_factory=dict)
    """Values of settings, as `recipe.epochs: [5, 10]`; every combination is one more variant."""
    keep_base: bool = False
    """Compare the next stage with the same base, whichever variant wins; if not set, the winner is its base."""

    averages: dict[RowName, dict[RowName, PositiveInt]] = Field(default_factory=dict)
    """Averages of the probabilities of networks of several seeds, by name, as `five-and-two: {base: 5, tuned: 2}`: the
    numbers of networks of each row. As many as share no network are judged; they cannot win."""
    subclassifiers: ClustersConfig | None = None
    """Compare the base with its sub-classifiers, in place of variants; the base stays that of the next stage."""

    @property
    def keeps_base(self) -> bool:
        """Whether the next stage has the same base."""
        return self.keep_base or self.subclassifiers is not None

    @model_validator(mode="after")
    def _has_variants(self) -> Self:
        has_variants = bool(self.variants or self.grid)
        if not has_variants and self.subclassifiers is None:
            raise ValueError(
                f"the stage {self.name!r} has no variant; set variants, grid or subclassifiers."
            )
        if has_variants and self.subclassifiers is not None:
            raise ValueError(
                f"the stage {self.name!r} has both variants and subclassifiers; make two stages of it."
            )
        if self.averages and self.subclassifiers is not None:
            raise ValueError(
                f"the stage {self.name!r} has averages, which are of variants, and subclassifiers; make two stages "
                "of it."
            )
        if reserved := sorted({"base", PRETRAINED} & self.variants.keys()):
            raise ValueError(
                f"the stage {self.name!r} calls a variant {reserved[0]!r}, a name with a meaning of its own; rename it."
            )
        return self


class PretrainingConfig(Config):
    """Trainings on other images, which rows with `start: pretrained` start from, seed by seed, with a new head."""

    images: ImagesConfig
    """The other labelled images, whose classes may be others too; those of their train split are trained on."""
    recipe: dict[str, Any] = Field(default_factory=dict)
    """Settings of the recipe that differ from the base's."""


class StudyConfig(Config):
    """A study: each variant is trained with several seeds, and the best on the validation split wins its stage."""

    schema_version: Literal[1] = 1
    """Version of the format of a study."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")] | None = None
    """Name of the study's folder, of at most 32 letters, digits, dashes and underscores; made from the file's name and
    content if not set."""
    seed: NonNegativeInt = 0
    """Seed of the split, of every training and of the bootstrap."""
    seeds: PositiveInt = 3
    """Number of networks that are trained for each variant, with the seeds 0, 1 and so on."""
    runs: Path = Path("runs")
    """The local folder that holds the study's folder and those of its stages."""
    images: ImagesConfig
    """The labelled images; their search split is the validation split, which chooses the winners."""
    views: Views = CenterView()
    """Test-time views of all networks."""
    max_parameters: PositiveInt | None = None
    """Largest number of parameters of a network; a variant with more is not trained. No bound if not set."""
    base: VariantConfig
    """The network and recipe that the variants of the first stage differ from."""
    k: PositiveInt = 1
    """An image counts as an error where its label is not among the k highest classes."""
    pretraining: PretrainingConfig | None = None
    """Trainings on other images; none if not set."""
    stages: Annotated[tuple[StageConfig, ...], Field(min_length=1)]
    """The stages, in order."""
    groups: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Known groups of classes, as superclasses, by name, each class in one: label clusters are compared with them. They
    choose nothing."""
    search: SearchConfig | None = None
    """Search at the end which of all networks make the best ensemble, as `search: {kind: auto, max_members: 5}`, and
    judge it on the test split; no search if not set. Networks that saw the validation split are left out."""
    resamples: Annotated[int, Field(ge=100)] = 2000
    """Number of bootstrap samples, of seeds and of images."""
    scale: str | None = None
    """Name of one of `scales`, whose settings hold; the full size if not set."""
    scales: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings by the name of a smaller or larger form of the study, as `small: {seeds: 1}`."""
    training: TrainingConfig = TrainingConfig()
    """What trainings may take of a machine; changes no result."""
    table: TableConfig = TableConfig()
    """How predictions are stored."""
    cluster: ClusterConfig = ClusterConfig()
    """Where and how wide the study computes; changes no result."""

    @property
    def identity(self) -> str:
        """Hash, by SHA-256, every setting that a result depends on."""
        document = dump_for_identity(self, _LATER_OF_STUDY)
        document = {key: value for key, value in document.items() if key not in _EXECUTION_ONLY}
        document["base"] = dump_for_identity(self.base, _LATER)
        document["stages"] = [_identity_of_stage(stage) for stage in self.stages]
        return fingerprint(document)

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [stage.name for stage in self.stages]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"stages: the names {twice} stand twice; each must be unique.")
        if PRETRAINED in names:
            raise ValueError(
                f"stages: {PRETRAINED!r} is the name of the trainings on other images; rename it."
            )
        if self.base.architecture is None:
            raise ValueError("base.architecture is not set; set it, as resnet20_cifar.")
        if self.base.adds_validation or self.base.start is not None:
            raise ValueError(
                "base.adds_validation and base.start are for variants, which are compared with a base that has "
                "fresh weights and a validation error; leave them out."
            )
        if self.images.split.train == 0:
            raise ValueError(
                "images.split.train is 0, and there are networks to train. Set it to a number of images."
            )
        if self.scale is not None and self.scale not in self.scales:
            raise ValueError(str(UnknownNameError.of("scale", self.scale, self.scales)))
        return self


def load_study(name: str, words: Sequence[str] = ()) -> StudyConfig:
    """Read a study, put the settings of its scale on top, and then the words.

    Args:
        name: Name of a study that comes with the project, or the path of a YAML file.
        words: Words of the form a.b=value.

    Raises:
        ConfigError: There is no such study, or a setting is wrong; the message names every one.
    """
    path = _path(name)
    config = load(StudyConfig, path, words)
    if config.scale is None:
        return config
    plain = load(StudyConfig, path).model_dump(mode="json", exclude_unset=True)
    settings = merge(plain, config.scales[config.scale])
    return check(
        StudyConfig,
        read_settings(full_words(StudyConfig, words), settings | {"scale": config.scale}),
        f"{path} at scale {config.scale}",
    )


def study_name(config: StudyConfig, stem: str) -> str:
    """Name a study as its settings say, or after its file's name and its content."""
    plain = _NOT_IN_NAMES.sub("-", stem).strip("_-")[:_STEM_LENGTH] or "study"
    return config.name or f"{plain}-{config.identity[:8]}"


def _identity_of_stage(stage: StageConfig) -> dict[str, Any]:
    variants = {name: dump_for_identity(v, _LATER) for name, v in stage.variants.items()}
    return dump_for_identity(stage, _LATER_OF_STAGE) | {"variants": variants}


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Put settings onto others, group by group; a group with another `kind` replaces the one that was there."""
    merged = dict(base)
    for key, value in change.items():
        there = merged.get(key)
        is_same_kind = (
            isinstance(value, Mapping)
            and isinstance(there, Mapping)
            and ("kind" not in value or value["kind"] == there.get("kind"))
        )
        merged[key] = merge(there, value) if is_same_kind else value  # type: ignore[arg-type]
    return merged


def _path(name: str) -> Path:
    shipped = {path.stem: path for path in SHIPPED.glob("*.yaml")}
    if name in shipped:
        return shipped[name]
    if Path(name).suffix not in (".yaml", ".yml"):
        raise UnknownNameError.of("study", name, [*shipped, "a path that ends in .yaml"])
    return Path(name)
