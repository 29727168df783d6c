"""What a run keeps at s3:// beside its table: config, artifact and report, each file by one PUT."""

from pathlib import Path

from ensemble.storage.open import open_store
from ensemble.storage.store import Store, read_if_there
from jobs.settings import RunConfig
from jobs.stored_runs.layout import (
    ARTIFACT,
    CONFIG,
    RunFolder,
    check_published,
    format_config,
    published_place,
)

_DOCUMENT = "ensemble.json"
_ENSEMBLE = f"{ARTIFACT}/{_DOCUMENT}"


def published(config: RunConfig, folder: RunFolder) -> Store | None:
    """Open the store that the run's files are copied to; none if `storage.runs` is not set."""
    place = published_place(config, folder)
    return None if place is None else open_store(place, config.storage)


def publish_config(store: Store, config: RunConfig) -> None:
    """Publish the config before anything else, to mark whose run this is.

    A config that is there already stays: each machine may reach the store in its own way.

    Raises:
        ConfigError: The store holds a run of another config.
    """
    text = read_if_there(store, CONFIG)
    if text is not None:
        check_published(store.url, text, config)
        return
    store.replace(CONFIG, format_config(config).encode())


def publish_results(store: Store, folder: RunFolder) -> None:
    """Upload the artifact, the page and the report; the report last, when all else is there.

    A reader finds the old artifact, none, or the new one: its `ensemble.json`, which names every
    file with its sha256, is removed first and uploaded last. An artifact that is there already is not
    uploaded again.
    """
    document = (folder.artifact / _DOCUMENT).read_bytes()
    if read_if_there(store, _ENSEMBLE) != document:
        store.remove(_ENSEMBLE)
        for path in sorted(folder.artifact.rglob("*")):
            if path.is_file() and path.name != _DOCUMENT:
                store.replace(_key(path, folder), path.read_bytes())
        store.replace(_ENSEMBLE, document)
    for path in (folder.report_html, folder.report_json):
        store.replace(_key(path, folder), path.read_bytes())


def _key(path: Path, folder: RunFolder) -> str:
    return path.relative_to(folder.path).as_posix()
