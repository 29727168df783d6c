"""Where a run and all that belongs to it lies: its folder's files, its table, the weights that runs share."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble.config import S3_SCHEME, check
from ensemble.errors import ConfigError
from ensemble.files import seal, unseal, write_atomic
from jobs.settings import ACCESS_ONLY, EXECUTION_ONLY, SHARED_FOLDER, RunConfig

CONFIG, PROGRESS, REPORT, PAGE = "config.json", "progress.json", "report.json", "report.html"
TABLE, ARTIFACT, SEARCHES, WEIGHTS, IMAGES = "table", "ensemble", "search", "weights", "images.json"
COLUMNS, IMPORT = "columns.json", "import.json"

# Everything that can lie in the folder of a run.
CONTENTS = (
    CONFIG,
    PROGRESS,
    TABLE,
    COLUMNS,
    ARTIFACT,
    REPORT,
    PAGE,
    SEARCHES,
    WEIGHTS,
    IMAGES,
    IMPORT,
)

# What a name of a run may not hold, and what a name leaves for the config's file name beside 8 digits.
_NOT_IN_NAMES, _STEM_LENGTH = re.compile(r"[^A-Za-z0-9_.-]+"), 55

_OTHER_NAME = (
    "Set name=... for a folder of its own; predictions that both need are copied from that run."
)

_ACCESS = tuple(f"images.source.{key}" for key in sorted(ACCESS_ONLY))


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run on this machine, `runs/NAME`."""

    path: Path

    @property
    def config(self) -> Path:
        """File with the resolved settings."""
        return self.path / CONFIG

    @property
    def progress_json(self) -> Path:
        """File with the run's progress, or how it ended."""
        return self.path / PROGRESS

    @property
    def artifact(self) -> Path:
        """Folder with the ensemble that `ensemble.predictor.load` takes."""
        return self.path / ARTIFACT

    @property
    def report_json(self) -> Path:
        """File with every figure of the report."""
        return self.path / REPORT

    @property
    def report_html(self) -> Path:
        """The page made from the report."""
        return self.path / PAGE


def cache_in(runs: Path) -> Path:
    """Locate the weights and costs that runs share; absolute, because hosts may run in another folder."""
    return (runs / SHARED_FOLDER).absolute()


def costs_in(runs: Path) -> Path:
    """Locate the measured costs of members, beside their weights."""
    return cache_in(runs) / "figures"


def tables_folder(config: RunConfig) -> str:
    """Locate the folder or prefix below which each run has a folder with its table."""
    return str(config.storage.tables or config.storage.runs or config.runs).rstrip("/")


def table_place(config: RunConfig, run: str | Path) -> str:
    """Locate the table of a run.

    Where the run lies now counts, and not where it was made.

    Args:
        config: The run's settings.
        run: The run's folder on this machine, or s3://bucket/prefix/RUN.
    """
    place, storage = str(run).rstrip("/"), config.storage
    is_remote = place.startswith(S3_SCHEME)
    above = storage.tables or (None if is_remote else storage.runs)
    if above is not None:
        place = f"{above.rstrip('/')}/{Path(place).name}"
    return f"{place}/{TABLE}"


def published_place(config: RunConfig, folder: RunFolder) -> str | None:
    """Locate the run's files at s3://; none if `storage.runs` is not set."""
    above = config.storage.runs
    return None if above is None else f"{above.rstrip('/')}/{folder.path.name}"


def not_a_run(place: str, lacking: str) -> ConfigError:
    """Make the error of a place that should be the folder of a run and is not.

    Args:
        place: A folder of this machine, or s3://bucket/prefix.
        lacking: What was looked for there.
    """
    return ConfigError(
        f"{place!r} is not the folder of a run: it has no {lacking}. Expected a folder such as "
        "runs/digits-1a2b3c4d or s3://bucket/prefix/RUN. `status` and `resume` also take the name of a "
        "submitted run, with --address URL."
    )


def run_name(config: RunConfig, stem: str) -> str:
    """Name a run as its config says, or after the config's file name and content.

    The name is one that a config may hold, a job of a cluster and a key of S3 may have, whatever the
    file is called.
    """
    plain = _NOT_IN_NAMES.sub("-", stem).strip("_.-")[:_STEM_LENGTH] or "run"
    return config.name or f"{plain}-{config.identity[:8]}"


def open_run_folder(config: RunConfig, stem: str) -> RunFolder:
    """Make a run's folder, or find it again.

    Args:
        config: The run's settings.
        stem: Name of the config file, for runs that have no name of their own.

    Raises:
        ConfigError: The folder belongs to another config, or cannot be written.
    """
    # Versions before called a run as its file is called, with blanks and all.
    before = config.runs / f"{stem}-{config.identity[:8]}"
    if config.name is None and (before / CONFIG).is_file():
        return take_folder(config, RunFolder(before))
    return take_folder(config, RunFolder(config.runs / run_name(config, stem)))


def take_folder(config: RunConfig, folder: RunFolder) -> RunFolder:
    """Make the folder of a run, or find that it belongs to the same run.

    Args:
        config: The run's settings.
        folder: The folder.

    Raises:
        ConfigError: The folder belongs to another config, or cannot be written.
    """
    settings = config.model_dump(mode="json")
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        if folder.config.exists():
            there = _parse_settings(folder.config.read_bytes(), str(folder.config))
            check_same(str(folder.path), there, settings)
        else:
            write_atomic(folder.config, format_config(config))
    except OSError as error:
        raise ConfigError(
            f"cannot use the run folder {str(folder.path)!r}: {error.strerror}. Expected a folder "
            "that can be written; set runs=PATH."
        ) from error
    return folder


def format_config(config: RunConfig) -> str:
    """Format the settings of a run as the text of its config.json, which holds its own SHA-256."""
    return json.dumps(seal(config.model_dump(mode="json")), indent=2) + "\n"


def parse_run_config(text: bytes, name: str, storage: Mapping[str, Any]) -> RunConfig:
    """Read the resolved settings of a run from the bytes of its config.json.

    Args:
        text: The bytes.
        name: What messages call the file.
        storage: Settings of `storage` that hold now, whatever held when the run was made.

    Raises:
        ConfigError: The bytes are not the settings of a run, or not those that were written.
    """
    settings = _parse_settings(text, name)
    if storage:
        settings["storage"] = dict(settings.get("storage") or {}) | dict(storage)
    return check(RunConfig, settings, name)


def check_published(url: str, text: bytes, config: RunConfig, advice: str = _OTHER_NAME) -> None:
    """Refuse to publish a run where one of another config is published.

    Args:
        url: The place, as messages call it.
        text: The bytes of the config.json that is there.
        config: The settings of the run.
        advice: What to do where they differ.

    Raises:
        ConfigError: The bytes are not the settings of a run, or a setting that results depend on
            differs.
    """
    there = _parse_settings(text, f"{url}/{CONFIG}")
    check_same(url, there, config.model_dump(mode="json"), advice)


def _parse_settings(text: bytes, name: str) -> dict[str, Any]:
    problem = "is not JSON"
    try:
        settings = json.loads(text)
        problem = "does not hold the settings that a run wrote there"
        if not isinstance(settings, dict):
            raise ValueError(f"it holds {type(settings).__name__}")
        return unseal(settings)
    except (ValueError, RecursionError) as error:  # bytes that are no text are a ValueError too
        raise ConfigError(
            f"{name} {problem} ({error}). Remove this one file and "
            "run the same config again: the table beside it stays, and all that fits is used again. If "
            "you changed the file on purpose, remove its line sha256 too."
        ) from error


def check_same(
    folder: str,
    settings_there: dict[str, Any],
    settings: dict[str, Any],
    advice: str = _OTHER_NAME,
) -> None:
    """Refuse to go on with a run of another config.

    Args:
        folder: The run's folder, as messages call it.
        settings_there: The settings of the run that the folder belongs to.
        settings: The settings of the run that is to use it.
        advice: What to do where they differ.

    Raises:
        ConfigError: A setting that results depend on differs; the first one is named.
    """
    theirs, ours = (_flatten(part) for part in (_complete(settings_there), settings))
    for key in sorted(theirs.keys() | ours.keys()):
        is_free = key.split(".")[0] in EXECUTION_ONLY or key.startswith(_ACCESS)
        if is_free or theirs.get(key) == ours.get(key):
            continue
        raise ConfigError(
            f"the run folder {folder!r} belongs to another config: {key} is "
            f"{theirs.get(key)!r} there and {ours.get(key)!r} here. {advice}"
        )


def _complete(settings: dict[str, Any]) -> dict[str, Any]:
    """Put in the settings that the version which wrote these did not have yet, at their defaults.

    Settings of a version that is newer, or too old, stay as they are: the comparison names what differs.
    """
    try:
        return check(RunConfig, settings, CONFIG).model_dump(mode="json")
    except ConfigError:
        return settings


def _flatten(value: Any, key: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        parts = value.items()
    elif isinstance(value, list) and value:
        parts = {str(i): item for i, item in enumerate(value)}.items()
    else:
        return {key: value}
    return {
        name: leaf
        for part, child in parts
        for name, leaf in _flatten(child, f"{key}.{part}" if key else str(part)).items()
    }
