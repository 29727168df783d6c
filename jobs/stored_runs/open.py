"""A run that is there already, in a folder or below s3://: its settings, its files and its table."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble.config import S3_SCHEME, check, read_settings
from ensemble.errors import ConfigError
from ensemble.storage.local_store import LocalStore
from ensemble.storage.open import open_store
from ensemble.storage.settings import S3Config, StorageConfig
from ensemble.storage.store import Store, read_if_there
from jobs.settings import SHARED_FOLDER, RunConfig
from jobs.stored_runs.layout import CONFIG, RunFolder, not_a_run, parse_run_config, take_folder
from jobs.stored_runs.tables import table_store

_PREFIX = "storage."
# Last parts of a place that are no name, or that of another folder beside the runs.
_NO_NAMES = ("", ".", "..", SHARED_FOLDER)


@dataclass(frozen=True)
class StoredRun:
    """A run that is there, finished or not.

    Attributes:
        name: Name of the run's folder.
        config: The run's settings, with the command's settings of `storage` on top.
        files: Store of the run's folder.
        table: Store of the run's table.
    """

    name: str
    config: RunConfig
    files: Store
    table: Store


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Divide words into settings of storage, written in full, and all others.

    Words such as endpoint=http://host:9000 are settings of storage, too.
    """
    full = [f"{_PREFIX}{word}" if _is_short(word) else word for word in words]
    storage = [word for word in full if word.startswith(_PREFIX)]
    return storage, [word for word in full if not word.startswith(_PREFIX)]


def _is_short(word: str) -> bool:
    """Whether a word sets how a store is reached, and leaves out that it is a setting of storage."""
    key, equals, _ = word.partition("=")
    return bool(equals) and key in S3Config.model_fields


def open_run(place: str | Path, words: Sequence[str] = ()) -> StoredRun:
    """Open a run's folder, or its prefix on S3.

    Args:
        place: The folder, or s3://bucket/prefix.
        words: How S3 is reached, of the form storage.key=value.

    Raises:
        ConfigError: The place is not the folder of a run, or a setting is wrong.
    """
    run = find_run(place, words)
    if run is None:
        raise not_a_run(str(place), CONFIG)
    return run


def continue_run(place: str, words: Sequence[str]) -> tuple[RunConfig, RunFolder]:
    """Take up a run where it lies, with the settings it was begun with.

    A run at s3:// needs nothing on this machine: its table and weights there are used, and a folder
    for it is made in `runs` of this machine.

    Args:
        place: The run's folder, or s3://bucket/prefix/RUN.
        words: Settings of the form storage.key=value; for s3:// also runs=PATH.

    Raises:
        ConfigError: The place is not the folder of a run, or the folder on this machine belongs to
            another run.
    """
    place = _named(place)
    if not place.startswith(S3_SCHEME):
        return open_run(place, words).config, RunFolder(Path(place))
    here = [word for word in words if word.startswith("runs=")]
    run = open_run(place, [word for word in words if word not in here])
    above, _, name = place.rstrip("/").rpartition("/")
    if name in _NO_NAMES or "\0" in name:
        raise ConfigError(
            f"cannot make a folder {name!r} for the run {place!r} on this machine. Expected a last "
            "part that is a name of its own, as s3://bucket/prefix/RUN."
        )
    # An absolute path was one of the machine that began the run.
    runs = "runs" if run.config.runs.is_absolute() else str(run.config.runs)
    settings = run.config.model_dump(mode="json")
    settings = read_settings(here, settings | {"runs": runs})
    settings["storage"]["runs"] = above
    config = check(RunConfig, settings, f"{place}/{CONFIG}")
    return config, take_folder(config, RunFolder(config.runs / name))


def open_table(place: str, words: Sequence[str] = ()) -> tuple[Store, StorageConfig]:
    """Open the table of a run, or the table that lies at a place itself.

    Returns:
        The store of the table, and the settings it is reached with.

    Raises:
        ConfigError: The place is neither the folder of a run nor a table, or a setting is wrong.
    """
    run = find_run(place, words)
    if run is not None:
        return run.table, run.config.storage
    config = storage_config(words)
    store = open_store(place, config)
    if next(store.keys("log"), None) is None and next(store.keys("columns"), None) is None:
        raise not_a_run(place, f"{CONFIG}, and no table's log or columns either")
    return store, config


def storage_config(words: Sequence[str]) -> StorageConfig:
    """Read settings of `storage` from words of the form storage.key=value.

    Raises:
        ConfigError: A setting is wrong, or is not one of `storage`.
    """
    return check(StorageConfig, _storage(words), "the command")


def find_run(place: str | Path, words: Sequence[str]) -> StoredRun | None:
    """Open a run as `open_run` does; None where no run lies."""
    text = _named(str(place))
    files = open_store(text, storage_config(words))
    settings = read_if_there(files, CONFIG)
    if settings is None:
        return None
    config = parse_run_config(settings, f"{files.url}/{CONFIG}", _storage(words))
    name = Path(text).resolve().name if isinstance(files, LocalStore) else Path(text).name
    return StoredRun(name, config, files, table_store(config, text))


def _named(place: str) -> str:
    """Give a folder its own name where it is meant by a relative one, as `.` in the folder of a run."""
    is_local = not place.startswith(S3_SCHEME)
    return os.path.abspath(place) if is_local and Path(place).name in ("", "..") else place


def _storage(words: Sequence[str]) -> dict[str, Any]:
    storage, wrong = split_words(words)
    if wrong:
        raise ConfigError(
            f"cannot read {wrong[0]!r}; expected settings of storage, as "
            "storage.endpoint=http://host:9000."
        )
    settings: dict[str, Any] = read_settings(storage).get("storage", {})
    return settings
