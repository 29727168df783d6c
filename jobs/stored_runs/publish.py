"""What a run keeps at s3:// beside its table: config, artifact and report, each file by one PUT."""

import json
from pathlib import Path

from ensemble.storage.open import open_store
from ensemble.storage.store import Store, read_if_there
from jobs.settings import RunConfig
from jobs.stored_runs.layout import RunFolder, check_same

_ENSEMBLE = "ensemble/ensemble.json"


def published(config: RunConfig, folder: RunFolder) -> Store | None:
    """Where the run's files go besides its folder; nowhere if `storage.runs` is not set."""
    if config.storage.runs is None:
        return None
    return open_store(f"{config.storage.runs.rstrip('/')}/{folder.path.name}", config.storage)


def publish_config(store: Store, config: RunConfig) -> None:
    """Say first of all whose run this is; what it was begun with stays.

    How it is reached may differ from machine to machine, and is theirs to say.

    Raises:
        ConfigError: A run of another config lies there.
    """
    settings = config.model_dump(mode="json")
    found = read_if_there(store, "config.json")
    if found is not None:
        check_same(store.url, json.loads(found), settings)
        return
    store.replace("config.json", (json.dumps(settings, indent=2) + "\n").encode())


def publish_results(store: Store, folder: RunFolder) -> None:
    """Upload the artifact, the page and the report; the report last, when all else is there.

    A reader finds the old artifact, none, or the new one: its `ensemble.json`, which names every
    file with its sha256, goes away first and comes last. It is left alone where it is ours.
    """
    document = (folder.artifact / "ensemble.json").read_bytes()
    if read_if_there(store, _ENSEMBLE) != document:
        store.remove(_ENSEMBLE)
        for path in sorted(folder.artifact.rglob("*")):
            if path.is_file() and path.name != "ensemble.json":
                store.replace(_key(path, folder), path.read_bytes())
        store.replace(_ENSEMBLE, document)
    for path in (folder.report_html, folder.report_json):
        store.replace(_key(path, folder), path.read_bytes())


def _key(path: Path, folder: RunFolder) -> str:
    return path.relative_to(folder.path).as_posix()
