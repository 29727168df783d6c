"""A run that is there already, in a folder or below s3://: its settings, its files and its table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble.config import S3_SCHEME, check
from ensemble.errors import ConfigError, DamagedTableError
from ensemble.storage.open import open_store
from ensemble.storage.settings import StorageConfig
from ensemble.storage.store import LocalStore, Store
from jobs.search_settings import read_settings
from jobs.settings import RunConfig
from jobs.stored_runs.layout import RunFolder, open_run_folder, parse_run_config, read_run_config
from jobs.stored_runs.tables import table_store

_PREFIX = "storage."


@dataclass(frozen=True)
class StoredRun:
    """What a run left.

    Attributes:
        name: Of its folder.
        config: Its settings, with what the command says of storage on top.
        files: Of its folder.
        table: Of its table.
    """

    name: str
    config: RunConfig
    files: Store
    table: Store


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words of the form storage.key=value, and all others."""
    ours = [word for word in words if word.startswith(_PREFIX)]
    return ours, [word for word in words if not word.startswith(_PREFIX)]


def open_run(place: str | Path, words: Sequence[str] = ()) -> StoredRun:
    """Open a run's folder, or its prefix on S3.

    Args:
        place: The folder, or s3://bucket/prefix.
        words: How S3 is reached, of the form storage.key=value.

    Raises:
        ConfigError: There is no run, or a setting is wrong.
    """
    run = _find(place, words)
    if run is None:
        raise ConfigError(
            f"{str(place)!r} is not the folder of a run: it has no config.json. Expected a folder such "
            "as runs/digits-1a2b3c4d, or s3://bucket/prefix/RUN."
        )
    return run


def continue_run(place: str, words: Sequence[str]) -> tuple[RunConfig, RunFolder]:
    """Take up a run where it lies, with the settings it was begun with.

    Of a run at s3:// nothing need be here: its table and weights there are used, and its folder is
    made in `runs` of this machine.

    Args:
        place: Its folder, or s3://bucket/prefix/RUN.
        words: Of the form storage.key=value; for s3:// also runs=PATH.

    Raises:
        ConfigError: There is no run, or the folder here is another one's.
    """
    if not place.startswith(S3_SCHEME):
        folder = RunFolder(Path(place))
        return read_run_config(folder, _storage(words)), folder
    here = [word for word in words if word.startswith("runs=")]
    run = open_run(place, [word for word in words if word not in here])
    above, _, name = place.rstrip("/").rpartition("/")
    # An absolute path was one of the machine that began the run.
    runs = "runs" if run.config.runs.is_absolute() else str(run.config.runs)
    settings = run.config.model_dump(mode="json")
    settings |= {"name": name, "runs": runs} | read_settings(here)
    settings["storage"]["runs"] = above
    config = check(RunConfig, settings, f"{place}/config.json")
    return config, open_run_folder(config, name)


def open_table(place: str, words: Sequence[str] = ()) -> tuple[Store, StorageConfig]:
    """The table of a run, or the table that lies at a place itself; and how it is reached.

    Raises:
        ConfigError: It is neither, or a setting is wrong.
    """
    run = _find(place, words)
    if run is not None:
        return run.table, run.config.storage
    config = storage_config(words)
    store = open_store(place, config)
    if next(store.keys("log"), None) is None and next(store.keys("columns"), None) is None:
        raise ConfigError(
            f"{place!r} is neither the folder of a run nor a table. Expected a folder such as "
            "runs/digits-1a2b3c4d, or s3://bucket/prefix/RUN."
        )
    return store, config


def storage_config(words: Sequence[str]) -> StorageConfig:
    """Settings of `storage` from words of the form storage.key=value.

    Raises:
        ConfigError: One is wrong, or of something else.
    """
    return check(StorageConfig, _storage(words), "the command")


def _find(place: str | Path, words: Sequence[str]) -> StoredRun | None:
    text = str(place)
    files = open_store(text, storage_config(words))
    try:
        settings = files.read("config.json")
    except DamagedTableError:
        return None
    config = parse_run_config(settings, f"{files.url}/config.json", _storage(words))
    name = Path(text).resolve().name if isinstance(files, LocalStore) else Path(text).name
    return StoredRun(name, config, files, table_of(text, config))


def table_of(place: str, config: RunConfig) -> Store:
    """The table of the run at a place: where the run lies now counts, not where it was made."""
    if not place.startswith(S3_SCHEME):
        return table_store(config, RunFolder(Path(place)))
    place, tables = place.rstrip("/"), config.storage.tables
    above = place if tables is None else f"{tables.rstrip('/')}/{Path(place).name}"
    return open_store(f"{above}/table", config.storage)


def _storage(words: Sequence[str]) -> dict[str, Any]:
    """Settings of `storage` from words as in a run's config."""
    wrong = [word for word in words if not word.startswith(_PREFIX)]
    if wrong:
        raise ConfigError(
            f"cannot read {wrong[0]!r}; expected settings of storage, as "
            "storage.endpoint=http://host:9000."
        )
    settings: dict[str, Any] = read_settings(words).get("storage", {})
    return settings
