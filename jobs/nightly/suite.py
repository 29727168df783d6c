"""The settings of a suite: what is deployed, on which images it is judged every night, and what counts as worse."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from cluster.settings import ClusterConfig
from ensemble.config import AbsolutePath, Config, Place, check, load
from ensemble.errors import ConfigError
from ensemble.images.settings import SourceConfig, with_storage
from ensemble.members.identity import fingerprint
from ensemble.storage.settings import StorageConfig
from ensemble.table.settings import TableConfig
from jobs.settings import RunConfig, load_run_config

MEMBER_ERROR = "member_error"
SECONDS = "seconds"

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"

Condition = Literal[
    "decoder",
    "precision",
    "device",
    "driver",
    "libraries",
    "commit",
    "dirty",
    "config",
]

# A loss that `accept` lets pass may add up to so many times the least loss that matters.
_CUMULATIVE = 2.0


class GateConfig(Config):
    """A figure that is compared every night."""

    metric: Annotated[str, Field(pattern=r"^(top[1-9][0-9]*_error|nll|ece|member_error|seconds)$")]
    """The figure: top1_error, top5_error or any other top-k error, nll, ece; member_error, the top-1 error of each
    member that changed, by itself, because an ensemble hides what one member loses; or seconds an image."""
    min_effect: PositiveFloat
    """The least loss that matters: percentage points of errors and of the ECE, nats of the NLL, percent of seconds."""
    max_cumulative_loss: PositiveFloat | None = None
    """Largest loss against the anchor, in the same unit, past which `accept` refuses and the anchor alarms; twice
    `min_effect` if not set."""
    role: Literal["gate", "watch"] = "gate"
    """Whether a regression alarms (gate), or is only shown (watch)."""

    @property
    def unit(self) -> float:
        """What a figure of the setting's unit is multiplied by."""
        return 1.0 if self.metric == "nll" else 0.01

    @property
    def is_of_outcomes(self) -> bool:
        """Whether the figure is one of the ensemble's answers on the images."""
        return self.metric not in (MEMBER_ERROR, SECONDS)

    @property
    def least(self) -> float:
        """The least loss that matters, as figures are recorded."""
        return self.min_effect * self.unit

    @property
    def most(self) -> float:
        """The largest loss against the anchor, as figures are recorded."""
        return (self.max_cumulative_loss or _CUMULATIVE * self.min_effect) * self.unit


class StreamConfig(Config):
    """Images that are fresh every night, judged by an e-detector against a pinned reference."""

    reference: Place
    """The artifact that the deployed one is compared with: a folder, or s3://bucket/prefix."""
    average_run_length: PositiveFloat = 100_000
    """Least mean number of images that only one of the two errs on until a false alarm."""


class SmokeConfig(Config):
    """The trial of a row: few images, and a record that counts for no baseline and no alert."""

    images: PositiveInt = 200
    """Number of images of the watch set that are judged."""


class RowConfig(Config):
    """One deployed ensemble and the images that it is judged on."""

    name: Annotated[str, Field(pattern=NAME)]
    """Name of the row in records and pages."""
    owner: str = ""
    """Person or team that looks after the row's alerts."""
    config: AbsolutePath | None = None
    """YAML file of a run, which is done every night and computes only what is new. Without `artifact` what it
    recommends is judged on its test split; with `artifact` it is only a proposal."""
    run: RunConfig | None = None
    """The settings of that run, written out, in the place of `config`."""
    artifact: Place | None = None
    """The deployed ensemble as it stands: the `ensemble` folder of a run, or s3://bucket/prefix."""
    images: SourceConfig | None = None
    """Labelled images to judge an `artifact` on; the test split of the run if not set."""
    watch: PositiveInt | None = None
    """Number of images that are judged every night, drawn by class; all that are not in the vault if not set."""
    vault: NonNegativeInt = 0
    """Number of images that only `ensemble nightly accept` judges on, drawn by class."""
    seed: NonNegativeInt = 0
    """Seed with which both sets are drawn."""
    groups: AbsolutePath | None = None
    """CSV file with the columns image_id and group: near-duplicates, as views of one object, count once."""
    gates: Annotated[tuple[GateConfig, ...], Field(min_length=1)] = (
        GateConfig(metric="top1_error", min_effect=0.5),
        GateConfig(metric="member_error", min_effect=1.0),
        GateConfig(metric="nll", min_effect=0.02, role="watch"),
    )
    """Figures that are compared, and the least loss of each that matters."""
    must_match: tuple[Condition, ...] = ()
    """Conditions beside images, labels, classes and seeds that must equal the baseline's; where one differs, figures
    are not comparable. By default such a change is judged, and named if it did harm."""
    stream: StreamConfig | None = None
    """For images that are fresh every night; there is no fixed set to compare with then."""
    smoke: SmokeConfig = SmokeConfig()
    """What `--smoke` judges of the row."""
    timeout_minutes: PositiveFloat = 240
    """Minutes after which the row is given up for tonight, and the night is partial."""
    trust_code: bool = False
    """Accept members of the artifact that bring code which runs here."""

    @model_validator(mode="after")
    def _check_sources(self) -> Self:
        if self.config and self.run:
            raise ValueError("config and run: give one of them.")
        if not (self.config or self.run or self.artifact):
            raise ValueError(
                "give `artifact`, the deployed ensemble, or `config`, the YAML file of a run."
            )
        if self.artifact and not (self.images or self.config or self.run):
            raise ValueError("artifact needs `images` to be judged on, or the `config` of its run.")
        if self.images and not self.artifact:
            raise ValueError("images: a `config` names its own images; they go with an `artifact`.")
        metrics = [gate.metric for gate in self.gates]
        if len(set(metrics)) != len(metrics):
            raise ValueError(f"gates: a metric stands twice among {', '.join(metrics)}.")
        if self.stream and not self.artifact:
            raise ValueError("stream: it watches an `artifact`; give one.")
        return self

    @property
    def identity(self) -> str:
        """Hash of the settings that the row's figures depend on, without its gates and texts."""
        document: dict[str, Any] = {
            "run": self.run.identity if self.run else None,
            "images": self.images.model_dump(mode="json", exclude={"storage", "download"})
            if self.images
            else None,
            "sets": [self.watch, self.vault, self.seed],
        }
        return fingerprint(document)


class SuiteConfig(Config):
    """A suite: rows that are judged together every night, under one budget of false alarms."""

    schema_version: Literal[1] = 1
    """Version of the format of a suite."""
    name: Annotated[str, Field(pattern=NAME)] | None = None
    """Name of the suite; its file's if not set."""
    folder: Place = "nightly"
    """Where the history lies: a folder, or s3://bucket/prefix. It holds records, pages, and a table of predictions."""
    false_alarms_per_year: PositiveFloat = 1.0
    """False alarms that are accepted in a year, all rows, figures and baselines together."""
    nights_per_year: PositiveInt = 365
    """Number of nights in a year."""
    rows: Annotated[tuple[RowConfig, ...], Field(min_length=1)]
    """What is judged."""
    canary_images: PositiveInt = 64
    """Images of each row that a network made bad on purpose predicts every night, to see that it is found."""
    max_examples: NonNegativeInt = 60
    """Number of images with a new error, or without an old one, that a night shows."""
    webhook: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = None
    """URL that gets one JSON message, as Slack takes it, when an alert opens or is resolved."""
    heartbeat: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = None
    """URL that is fetched at the end of every night, so that another service can tell when none came."""
    mlflow: Annotated[str, Field(min_length=1)] | None = None
    """Tracking URI of MLflow 3, as http://host:5000, which gets each night as a run; it needs the extra `mlflow`."""
    runs: Path = Path("runs")
    """The local folder whose cache keeps what members cost, as measured; a `config` names its own `runs`."""
    table: TableConfig = TableConfig()
    """How predictions are stored."""
    storage: StorageConfig = StorageConfig()
    """How everything at s3:// is reached."""
    cluster: ClusterConfig = ClusterConfig()
    """Where and how wide missing predictions are computed."""

    @field_validator("rows")
    @classmethod
    def _check_names(cls, rows: tuple[RowConfig, ...]) -> tuple[RowConfig, ...]:
        names = [row.name for row in rows]
        if len(set(names)) != len(names):
            raise ValueError(f"a name stands twice among {', '.join(names)}; each must be unique.")
        return rows

    def source_of(self, row: RowConfig) -> SourceConfig:
        """Give the source of a row's images with the settings that it is reached by."""
        if row.images is not None:
            return with_storage(row.images, self.storage)
        assert row.run is not None
        return row.run.image_source


def load_suite(path: Path, overrides: Sequence[str] = ()) -> SuiteConfig:
    """Read a suite, and write out the settings of the runs that its rows name.

    Relative paths in it start at the working folder; the verbs work in the folder of the suite's file.

    Args:
        path: The YAML file.
        overrides: Words of the form a.b=value.

    Raises:
        ConfigError: The file cannot be read, or a setting is wrong; the message names every one.
    """
    if not path.is_file():
        raise ConfigError(
            f"cannot read the suite {str(path)!r}: there is no such file. Expected the path of a YAML file; "
            "`ensemble nightly schema` prints what it may contain."
        )
    suite = load(SuiteConfig, path, overrides)
    rows = []
    for row in suite.rows:
        settings = row.model_dump(exclude_unset=True)
        if row.config is not None:
            settings["run"] = load_run_config(row.config).model_dump(exclude_unset=True)
            del settings["config"]
        rows.append(settings)
    name = suite.name or re.sub(r"[^A-Za-z0-9_.-]+", "-", path.stem).strip("_.-")[:64] or "suite"
    written = suite.model_dump(exclude_unset=True) | {
        "rows": rows,
        "name": name,
        "folder": suite.folder,
    }
    return check(SuiteConfig, written, str(path))


@contextlib.contextmanager
def in_folder_of(path: Path) -> Iterator[Path]:
    """Work in the folder of a suite's file, so that a scheduler may start the command anywhere.

    Yields:
        The file, as it is called there.
    """
    folder = path.expanduser().absolute().parent
    if not folder.is_dir():
        yield path.expanduser().absolute()  # whoever reads it says that it is missing
        return
    with contextlib.chdir(folder):
        yield Path(path.name)
