"""`ensemble verify`: hash every file of an artifact again, and replay its golden inputs."""

from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ensemble import predictor
from ensemble.artifact.read import read_document
from ensemble.artifact.sums import check_sums, read_sums
from ensemble.errors import CheckpointError


@dataclass(frozen=True)
class Verification:
    """What came of verifying an artifact.

    Attributes:
        files: Number of files that were hashed.
        golden: Number of golden inputs that were replayed.
        largest_difference: Largest difference of a probability to the expected one; None where no
            golden input was replayed.
        problems: What is wrong, a sentence each.
        notes: What is worth knowing and not wrong, a sentence each.
    """

    files: int
    golden: int
    largest_difference: float | None
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def document(self) -> dict[str, Any]:
        """Give everything as JSON values."""
        return {"sound": self.is_sound, **asdict(self)}


def verify(folder: Path, *, device: str = "cpu", trust_code: bool = False) -> Verification:
    """Verify an artifact.

    Args:
        folder: The folder of the artifact.
        device: Device that replays the golden inputs, as torch names it.
        trust_code: Accept members that run code of their own.

    Raises:
        ConfigError: There is no such device.
        CheckpointError: A file cannot be read now.
    """
    problems, notes = list(check_sums(folder)), []
    files = len(read_sums(folder))
    if not files:
        notes.append(
            "there is no SHA256SUMS, as in artifacts before version 4: the weights alone were hashed. "
            "`ensemble resume RUN` writes the artifact anew."
        )
    try:
        document = read_document(folder)
        replay = predictor.load(folder, device=device, trust_code=trust_code).replay()
    except CheckpointError as error:
        problems += [] if problems else [str(error)]
        return Verification(files, 0, None, tuple(problems), tuple(notes))
    problems += replay.problems
    if not replay.images:
        notes.append("there are no golden inputs to replay.")
    notes += _other_versions(document.versions)
    difference = replay.largest_difference if replay.images else None
    return Verification(files, replay.images, difference, tuple(problems), tuple(notes))


def _other_versions(versions: dict[str, str]) -> list[str]:
    """Name the libraries of other versions than those that the artifact was made with."""
    others = []
    for name, made_with in versions.items():
        variant, _, number = made_with.rpartition(" ")
        try:
            here = version(variant or name)
        except PackageNotFoundError:
            here = "not installed"
        if here != number:
            others.append(f"{variant or name} {number} (here {here})")
    return [f"it was made with {', '.join(others)}."] if others else []
