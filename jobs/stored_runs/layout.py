"""The folder of a run: what lies where, and whose it is."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble.config import check
from ensemble.errors import ConfigError
from jobs.settings import ACCESS_ONLY, EXECUTION_ONLY, RunConfig

_ACCESS = tuple(f"images.source.{key}" for key in sorted(ACCESS_ONLY))


@dataclass(frozen=True)
class RunFolder:
    """Paths below `runs/<name>/`."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved settings."""
        return self.path / "config.json"

    @property
    def progress_json(self) -> Path:
        """What the run is at, or how it ended."""
        return self.path / "progress.json"

    @property
    def table(self) -> Path:
        """The logit table."""
        return self.path / "table"

    @property
    def artifact(self) -> Path:
        """The ensemble that `ensemble.predictor.load` takes."""
        return self.path / "ensemble"

    @property
    def report_json(self) -> Path:
        """Every figure."""
        return self.path / "report.json"

    @property
    def report_html(self) -> Path:
        """The page made from it."""
        return self.path / "report.html"


def run_name(config: RunConfig, stem: str) -> str:
    """The name of a run: its own, or one made from its config's file name and content."""
    return config.name or f"{stem}-{config.identity[:8]}"


def open_run_folder(config: RunConfig, stem: str) -> RunFolder:
    """Make a run's folder, or find it again.

    Args:
        config: The run's settings.
        stem: Name of the config file, for runs that have no name of their own.

    Raises:
        ConfigError: The folder belongs to another config, or cannot be written.
    """
    folder = RunFolder(config.runs / run_name(config, stem))
    settings = config.model_dump(mode="json")
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        if folder.config.exists():
            check_same(str(folder.path), json.loads(folder.config.read_text()), settings)
        write(folder.config, json.dumps(settings, indent=2) + "\n")
    except OSError as error:
        raise ConfigError(
            f"cannot use the run folder {str(folder.path)!r}: {error.strerror}. Expected a folder "
            "that can be written; set runs=PATH."
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"{folder.config} is not JSON ({error}). Remove the folder {str(folder.path)!r}, or set "
            "name=... to use another."
        ) from error
    return folder


def read_run_config(folder: RunFolder, storage: Mapping[str, Any] | None = None) -> RunConfig:
    """The resolved settings of a run, with settings of `storage` that hold now on top.

    Raises:
        ConfigError: It is not the folder of a run.
    """
    name = str(folder.config)
    try:
        text = folder.config.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{str(folder.path)!r} is not the folder of a run: {name} cannot be read "
            f"({error.strerror}). Expected a folder such as runs/digits-1a2b3c4d."
        ) from error
    return parse_run_config(text, name, storage or {})


def parse_run_config(text: bytes, name: str, storage: Mapping[str, Any]) -> RunConfig:
    """The resolved settings of a run from the bytes of its config.json.

    Args:
        text: Those bytes.
        name: What messages call the file.
        storage: Settings of `storage` that hold now, whatever held when the run was made.

    Raises:
        ConfigError: They are no settings of a run.
    """
    try:
        settings = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{name} is not JSON ({error}). Run the job again.") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{name} holds {type(settings).__name__}; expected a run's settings.")
    if storage:
        settings["storage"] = dict(settings.get("storage") or {}) | dict(storage)
    return check(RunConfig, settings, name)


def write(path: Path, text: str) -> None:
    """Replace a file at once."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def check_same(folder: str, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse to go on with a run of another config.

    Args:
        folder: Of the run.
        found: The settings that lie there.
        wanted: Ours.

    Raises:
        ConfigError: A setting that results depend on differs; the first one is named.
    """
    theirs, ours = (_flatten(part) for part in (found, wanted))
    for key in sorted(theirs.keys() | ours.keys()):
        is_free = key.split(".")[0] in EXECUTION_ONLY or key.startswith(_ACCESS)
        if is_free or theirs.get(key) == ours.get(key):
            continue
        raise ConfigError(
            f"the run folder {folder!r} belongs to another config: {key} is "
            f"{theirs.get(key)!r} there and {ours.get(key)!r} here. Set name=... for a folder of "
            "its own, or remove that folder."
        )


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
