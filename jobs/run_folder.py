"""The folder of a run: what lies where, and whose it is."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble.config import check
from ensemble.errors import ConfigError
from jobs.settings import EXECUTION_ONLY, RunConfig


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
            _check_same(folder, json.loads(folder.config.read_text()), settings)
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


def read_run_config(folder: RunFolder) -> RunConfig:
    """The resolved settings of a run.

    Raises:
        ConfigError: It is not the folder of a run.
    """
    name = str(folder.config)
    try:
        settings = json.loads(folder.config.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{str(folder.path)!r} is not the folder of a run: {name} cannot be read "
            f"({error.strerror}). Expected a folder such as runs/digits-1a2b3c4d."
        ) from error
    except ValueError as error:
        raise ConfigError(f"{name} is not JSON ({error}). Run the job again.") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{name} holds {type(settings).__name__}; expected a run's settings.")
    return check(RunConfig, settings, name)


def write(path: Path, text: str) -> None:
    """Replace a file at once."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _check_same(folder: RunFolder, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    theirs, ours = (_flatten(part) for part in (found, wanted))
    for key in sorted(theirs.keys() | ours.keys()):
        if key.split(".")[0] in EXECUTION_ONLY or theirs.get(key) == ours.get(key):
            continue
        raise ConfigError(
            f"the run folder {str(folder.path)!r} belongs to another config: {key} is "
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
