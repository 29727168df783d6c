"""What a run keeps at s3:// beside its table: config, artifact and report, each file by one PUT."""

from pathlib import Path

from ensemble.artifact.document import FILE_NAME as DOCUMENT
from ensemble.artifact.sums import FILE_NAME as SUMS
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
    """Upload the artifact, the page and the report; the report last, when all else is there."""
    publish_artifact(store, ARTIFACT, folder.artifact)
    for path in (folder.report_html, folder.report_json):
        store.replace(_key(path, folder), path.read_bytes())


def publish_artifact(store: Store, key: str, artifact: Path) -> None:
    """Upload an artifact.

    A reader finds the old artifact or the new one: weights are named by their content, so that those of
    both lie side by side until `ensemble.json`, which names them, is replaced by one PUT. Then the
    others are removed. Files that are there already are not uploaded again.

    Args:
        store: Where it is published.
        key: Its folder in the store.
        artifact: Its folder on this machine.
    """
    files = {
        f"{key}/{path.relative_to(artifact).as_posix()}": path
        for path in sorted(artifact.rglob("*"))
        if path.is_file()
    }
    document, names = f"{key}/{DOCUMENT}", {f"{key}/{DOCUMENT}", f"{key}/{SUMS}"}
    if all(read_if_there(store, name) == files[name].read_bytes() for name in names & files.keys()):
        return
    there = set(store.keys(key))
    content = files.pop(document).read_bytes()
    for name, path in files.items():
        if name not in there or store.read(name) != path.read_bytes():
            store.replace(name, path.read_bytes())
    store.replace(document, content)
    for name in sorted(there - files.keys() - {document}):
        store.remove(name)


def _key(path: Path, folder: RunFolder) -> str:
    return path.relative_to(folder.path).as_posix()
