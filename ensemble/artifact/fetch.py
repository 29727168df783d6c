"""Copying an artifact from S3 to a temporary folder: what predicts, or every file that it lists."""

from ensemble.artifact.document import FILE_NAME
from ensemble.artifact.golden import files_of
from ensemble.artifact.read import read_document
from ensemble.artifact.sums import FILE_NAME as SUMS
from ensemble.artifact.sums import read_sums
from ensemble.errors import CheckpointError, DamagedTableError
from ensemble.storage.fetch import FetchedFolder
from ensemble.storage.settings import S3Config


def fetch(
    place: str, storage: S3Config, without: str | None = None, *, may_lack: bool = False
) -> FetchedFolder:
    """Copy an artifact from S3 to a temporary folder, which lives as long as what is returned.

    Args:
        place: The artifact, as s3://bucket/prefix.
        storage: How S3 is reached.
        without: Name of a member whose file is lost and not copied.
        may_lack: Leave out files that are not there.

    Raises:
        UnknownNameError: No member has the name `without`.
        CheckpointError: The prefix is not that of an artifact, or a file is missing.
        ConfigError: The store is missing, or refuses access.
    """
    folder = FetchedFolder(place, storage)
    folder.fetch(FILE_NAME)
    document = read_document(folder.path, without)
    for file in (*document.files, *files_of(document.golden)):
        if may_lack:
            _fetch_if_there(folder, file)
        else:
            folder.fetch(file)
    return folder


def fetch_whole(place: str, storage: S3Config) -> FetchedFolder:
    """Copy every file that an artifact on S3 lists to a temporary folder, as `fetch` does.

    Raises:
        CheckpointError: The prefix is not that of an artifact, or its list of files cannot be read.
        ConfigError: The store is missing, or refuses access.
    """
    folder = FetchedFolder(place, storage)
    folder.fetch(FILE_NAME)
    _fetch_if_there(folder, SUMS)
    document = read_document(folder.path)
    listed = read_sums(folder.path) or (*document.files, *files_of(document.golden))
    for file in (file for file in listed if file != FILE_NAME):
        _fetch_if_there(folder, file)  # what is not there is named by `check_sums`
    return folder


def _fetch_if_there(folder: FetchedFolder, file: str) -> None:
    try:
        folder.fetch(file)
    except CheckpointError as error:
        if not isinstance(error.__cause__, DamagedTableError):
            raise
