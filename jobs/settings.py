"""The settings of a run: every stage's, put together. Neither torch nor ray is imported here."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from cluster.settings import ClusterConfig
from ensemble.config import Config, check, load
from ensemble.errors import UnknownNameError
from ensemble.images.settings import SourceConfig, SplitConfig, in_first_form, with_storage
from ensemble.members.identity import fingerprint
from ensemble.members.member import VIEW_MARK
from ensemble.members.settings import MemberConfig, Precision
from ensemble.members.source_settings import MemberSource, RecipeSource, WeightsConfig
from ensemble.search.settings import SearchConfig
from ensemble.storage.settings import StorageConfig
from ensemble.subclassifiers.settings import SubclassifiersConfig
from ensemble.table.settings import TableConfig
from ensemble.training.recipe import RecipeConfig
from ensemble.training.settings import TrainingConfig
from ensemble.views.settings import CenterView, Views
from jobs.pools import load_pool

# The folder beside those of runs, with the weights that they share.
SHARED_FOLDER = "cache"

# Settings that change how a run computes, and none of its results.
EXECUTION_ONLY = {"name", "runs", "cluster", "storage", "weights", "training"}
# Settings of the images' source that say how an image is reached, and not which one it is.
ACCESS_ONLY = {"storage", "download"}


class ImagesConfig(Config):
    """The labelled images of a run."""

    source: SourceConfig
    """Where the images come from."""
    split: SplitConfig = SplitConfig()
    """How the images are divided into train, search and test images."""
    max_bad_images: NonNegativeInt = 0
    """The run fails if more images than this cannot be decoded; up to this number they are left out and listed."""


class ReportConfig(Config):
    """What the report counts and shows."""

    top_k: PositiveInt = 3
    """The k of the top-k error that is reported beside the top-1 error, where `search.k` is 1. Otherwise
    everything is reported at `search.k`, with the top-1 error beside it. With three classes or two, the
    default is one less than there are."""
    resamples: Annotated[int, Field(ge=100)] = 10_000
    """Number of resamples of each paired bootstrap interval."""
    max_examples: NonNegativeInt = 8
    """Number of example images shown whose answer the ensemble changed."""
    coverage: Annotated[float, Field(gt=0, lt=1)] | None = 0.9
    """Least probability with which the set of classes that each answer has holds the label; null for no sets."""

    def fit_top_k(self, num_classes: int) -> int:
        """Give the k to report: the default is lowered where there are so few classes that none could be wrong."""
        is_default = self.top_k == ReportConfig.model_fields["top_k"].default
        return min(self.top_k, max(1, num_classes - 1)) if is_default else self.top_k


class RunConfig(Config):
    """One run: from images and a pool of members to an ensemble and a report."""

    schema_version: Literal[1] = 1
    """Version of the format of a run's config."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")] | None = None
    """Name of the run's folder, of letters, digits, dots, dashes and underscores, 64 at most; made from the
    config's file name and content if not set."""
    seed: NonNegativeInt = 0
    """Seed of the split and of every training."""
    runs: Path = Path("runs")
    """The local folder that holds a folder for each run, and the weights that runs share."""
    images: ImagesConfig
    """The labelled images."""
    recipes: dict[str, RecipeConfig] = Field(default_factory=dict)
    """Recipes: how to train a member, by name."""
    views: Views = CenterView()
    """Test-time views of members that do not set their own."""
    precision: Precision = "float32"
    """Precision of the weights and activations of members that do not set their own; changes their predictions."""
    pool: str | None = None
    """Name of a pool of the project, such as imagenet13-public, or a YAML file with one; in place of `members`."""
    members: Annotated[tuple[MemberConfig, ...], Field(min_length=1)] = ()
    """The members of the pool, written out."""
    weights: WeightsConfig = WeightsConfig()
    """Where published weights are looked for, and what is trusted; changes no result."""
    training: TrainingConfig = TrainingConfig()
    """What trainings may take of a machine; changes no result."""
    search: SearchConfig = SearchConfig()
    """Which search finds the weights, and what it lowers."""
    temperature: bool = False
    """Average members at temperatures, each of which lowers its NLL on held-out search images."""
    subclassifiers: SubclassifiersConfig | None = None
    """Sub-classifiers over label clusters; none are made if not set."""
    report: ReportConfig = ReportConfig()
    """What the report shows."""
    table: TableConfig = TableConfig()
    """How predictions are stored."""
    storage: StorageConfig = StorageConfig()
    """How everything at s3:// is reached, and what of a run is kept there; changes no result."""
    cluster: ClusterConfig = ClusterConfig()
    """Where and how wide the run computes; changes no result."""

    @field_validator("name")
    @classmethod
    def _is_of_a_run(cls, name: str | None) -> str | None:
        if name == SHARED_FOLDER:
            raise ValueError(
                f"{name!r} is the folder of the weights that runs share; give the run another name."
            )
        return name

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        if bool(self.members) == bool(self.pool):
            raise ValueError("members: give either `members` or a `pool`, and not both.")
        names = [member.name for member in self.members]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"members: the names {twice} stand twice; each must be unique.")
        recipes = [m.source.recipe for m in self.members if isinstance(m.source, RecipeSource)]
        subs = self.subclassifiers
        recipes += [subs.recipe] if subs and subs.recipe else []
        if subs and subs.base and subs.base not in names:
            raise ValueError(
                f"subclassifiers.base: {UnknownNameError.of('member', subs.base, names)}"
            )
        if (recipes or subs) and self.images.split.train == 0:
            raise ValueError(
                "images.split.train is 0, and there are networks to train. Set it, or use checkpoints."
            )
        for recipe in recipes:
            if recipe not in self.recipes:
                raise ValueError(str(UnknownNameError.of("recipe", recipe, self.recipes)))
        self._check_starts()
        self._check_search_names(names)
        return self

    def _check_starts(self) -> None:
        """Refuse a start from a member that is not there, or that itself waits for this one."""
        starts = dict[str, str]()
        for member in self.members:
            if not isinstance(member.source, RecipeSource):
                continue
            start = member.source.start
            if start is None and self.recipes[member.source.recipe].head_only:
                raise ValueError(
                    f"recipes.{member.source.recipe}.head_only is true, and {member.name!r} starts from fresh "
                    "weights, whose head alone can learn nothing. Set start in its source, as timm:NAME.TAG."
                )
            if isinstance(start, MemberSource):
                starts[member.name] = start.name
        names = [member.name for member in self.members]
        for name, base in starts.items():
            if base not in names:
                raise ValueError(
                    str(UnknownNameError.of(f"member to start {name!r} from", base, names))
                )
            seen = [name]
            while seen[-1] in starts:
                seen.append(starts[seen[-1]])
                if seen[-1] in seen[:-1]:
                    raise ValueError(
                        f"members: {', which starts from '.join(seen)}; one of them must start from other "
                        "weights."
                    )

    def _check_search_names(self, names: Sequence[str]) -> None:
        """Refuse now what the search would refuse after everything is predicted."""
        for setting in ("costs", "families", "start"):
            for name in getattr(self.search, setting):
                # A view that is kept apart is named after its member.
                if names and name.partition(VIEW_MARK)[0] not in names:
                    kind = f"member of search.{setting}"
                    raise ValueError(str(UnknownNameError.of(kind, name, names)))

    @property
    def identity(self) -> str:
        """Hash, by SHA-256, every setting that a result depends on."""
        exclude = {"images": {"source": ACCESS_ONLY}} | dict.fromkeys(EXECUTION_ONLY, True)
        if not self.temperature:  # runs that know of no such setting go on
            exclude["temperature"] = True
        document = self.model_dump(mode="json", exclude=exclude)
        document["images"] = in_first_form(document["images"])
        document["recipes"] = {name: recipe.identity() for name, recipe in self.recipes.items()}
        for member, settings in zip(document["members"], self.members, strict=True):
            if isinstance(settings.source, RecipeSource):
                member["source"] = settings.source.identity()
        if self.report.coverage == ReportConfig.model_fields["coverage"].default:  # likewise
            del document["report"]["coverage"]
        if self.search.combine is None:  # likewise
            del document["search"]["combine"]
        return fingerprint(document)

    @property
    def image_source(self) -> SourceConfig:
        """Give the source of the images with the settings that it is reached by."""
        return with_storage(self.images.source, self.storage)


def load_run_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read the settings of a run from a YAML file, put overrides on top, and write out its pool.

    Args:
        path: The YAML file.
        overrides: Words of the form a.b=value.

    Raises:
        ConfigError: The file cannot be read, or a setting is wrong; the message names every one.
    """
    config = load(RunConfig, path, overrides)
    if config.pool is None:
        return config
    written = {"pool": None, "members": load_pool(config.pool)}
    return check(RunConfig, config.model_dump(exclude_unset=True) | written, str(path))
