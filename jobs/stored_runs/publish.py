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

    A reader finds the old artifact or the new one: files are named by their content, so that those of
    both lie side by side until `ensemble.json`, which names them, is replaced by one PUT. Then the
    others are removed. Files that are there already are not uploaded again.
    """
    document = (folder.artifact / _DOCUMENT).read_bytes()
    if read_if_there(store, _ENSEMBLE) != document:
        there = set(store.keys(ARTIFACT))
        files = {
            _key(path, folder): path
            for path in sorted(folder.artifact.rglob("*"))
            if path.is_file() and path.name != _DOCUMENT
        }
        for key, path in files.items():
            if key not in there or store.read(key) != path.read_bytes():
                store.replace(key, path.read_bytes())
        store.replace(_ENSEMBLE, document)
        for key in sorted(there - files.keys() - {_ENSEMBLE}):
            store.remove(key)
    for path in (folder.report_html, folder.report_json):
        store.replace(_key(path, folder), path.read_bytes())


def _key(path: Path, folder: RunFolder) -> str:
    return path.relative_to(folder.path).as_posix()
