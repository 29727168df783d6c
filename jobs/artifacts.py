"""Where an artifact lies: the folder itself, or that of the run that made it, here or at s3://."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ensemble.artifact.document import FILE_NAME
from ensemble.artifact.fetch import fetch_whole
from ensemble.config import S3_SCHEME
from ensemble.errors import ConfigError
from ensemble.storage.fetch import FetchedFolder
from ensemble.storage.open import open_store
from ensemble.storage.settings import S3Config, StorageConfig
from ensemble.storage.store import read_if_there
from jobs.stored_runs.layout import ARTIFACT
from jobs.stored_runs.open import storage_config


@dataclass(frozen=True)
class ArtifactFolder:
    """An artifact in a folder of this machine.

    Attributes:
        place: The place as it was typed, with `/ensemble` where that of a run was meant.
        path: The folder.
        fetched: Copy of an artifact at s3://, which lives as long as this object; None for a local one.
    """

    place: str
    path: Path
    fetched: FetchedFolder | None = None


def find_artifact(place: str, words: Sequence[str] = ()) -> tuple[str, StorageConfig]:
    """Find an artifact: the place itself, or the folder `ensemble` of the run that lies there.

    Args:
        place: A folder or s3://bucket/prefix.
        words: How S3 is reached, of the form storage.key=value.

    Returns:
        The place of the artifact, and the settings that it is reached with.

    Raises:
        ConfigError: There is no artifact, or a setting is wrong.
    """
    storage, place = storage_config(words), place.rstrip("/") or place
    for candidate in (place, f"{place}/{ARTIFACT}"):
        if read_if_there(open_store(candidate, storage), FILE_NAME) is not None:
            return candidate, storage
    raise ConfigError(
        f"{place!r} is no artifact and no run that has one: there is no {FILE_NAME} in it. Expected the folder "
        "that `ensemble run` or `ensemble search --save` wrote, as runs/NAME/ensemble, or the run's own."
    )


def bring_artifact(place: str, words: Sequence[str] = ()) -> ArtifactFolder:
    """Find an artifact, and copy all of its files to this machine where it lies at s3://.

    Raises:
        ConfigError: There is no artifact, or a setting is wrong.
        CheckpointError: A file cannot be read.
    """
    place, storage = find_artifact(place, words)
    if not place.startswith(S3_SCHEME):
        return ArtifactFolder(place, Path(place))
    settings = {name: getattr(storage, name) for name in S3Config.model_fields}
    fetched = fetch_whole(place, S3Config.model_validate(settings))
    return ArtifactFolder(place, fetched.path, fetched)
