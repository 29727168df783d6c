"""Which member of an artifact is lost: the one whose file is gone or is not the one that was saved."""

from dataclasses import dataclass
from pathlib import Path

from ensemble.artifact.document import NetworkEntry
from ensemble.artifact.read import path_of, read_document
from ensemble.errors import CheckpointError
from ensemble.files import sha256_of


@dataclass(frozen=True)
class LostMember:
    """A member whose weights are lost.

    Attributes:
        name: Name of the member.
        reason: What is wrong with its file, as a sentence.
    """

    name: str
    reason: str


def find_lost_member(folder: Path) -> LostMember | None:
    """Find the member whose file is lost; None if all files are those that were saved.

    Raises:
        CheckpointError: The document cannot be read, or more than one member is lost.
    """
    entries = read_document(folder).networks
    lost = [LostMember(entry.name, reason) for entry in entries if (reason := _why(folder, entry))]
    if len(lost) > 1:
        raise CheckpointError(
            f"{len(lost)} members are lost: {' '.join(member.reason for member in lost)} There are weights "
            "for the loss of one member only. Copy the artifact again."
        )
    return lost[0] if lost else None


def _why(folder: Path, entry: NetworkEntry) -> str:
    path = path_of(folder, entry.file)
    try:
        digest = sha256_of(path)
    except OSError as error:
        return f"The weights of {entry.name!r} cannot be read ({path}: {error.strerror})."
    if digest != entry.sha256:
        return f"The weights of {entry.name!r} are not those that were saved ({path})."
    return ""
