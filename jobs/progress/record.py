"""What a run says of itself while it goes: one value for its log, its folder, and `ensemble status`."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, ValidationError

from ensemble.config import Config
from ensemble.errors import ConfigError, DataError


class MemberRecord(Config):
    """What one member, or sub-classifier, is at."""

    state: str
    """As queued, training, predicting, predicted."""
    images: int = 0
    """Forward passes of this very run, a view of an image being one."""
    images_per_s: float = 0.0
    """While it computed."""
    retries: int = 0
    """Calls that were made again after a failure."""


class StageRecord(Config):
    """How far a stage under way is."""

    name: str
    """As predict."""
    done: int
    """Units that are done."""
    total: int
    """All of them."""
    unit: str
    """What is counted."""
    images_per_s: float
    """Forward passes per second of the clock; 0 where none are made."""
    eta_s: float | None
    """Seconds to go at the pace so far; none before anything is done."""
    seconds: float
    """Since it began."""


class ProgressRecord(Config):
    """A run at a moment."""

    schema_version: Literal[1] = 1
    """Version of this format."""
    run: str
    """Its name."""
    state: Literal["running", "finished", "stopped", "failed"]
    """Where it is; a stopped one goes on with `ensemble resume`."""
    at: AwareDatetime
    """When this was written."""
    seconds: float
    """Since the run began."""
    stages: tuple[StageRecord, ...]
    """Those under way."""
    members: dict[str, MemberRecord]
    """By name."""
    retries: int
    """Calls that were made again, in all."""
    message: str = ""
    """Why it failed."""

    def describe(self) -> str:
        """One line for a person."""
        parts = [f"{self.run}: {self.state} for {self.seconds:.0f} s"]
        if self.state != "running":
            parts = [f"{self.run}: {self.state} after {self.seconds:.0f} s"]
        for stage in self.stages:
            rate = f", {stage.images_per_s:.0f} images/s" if stage.images_per_s else ""
            eta = f", ETA {stage.eta_s:.0f} s" if stage.eta_s is not None else ""
            parts.append(f"{stage.name} {stage.done}/{stage.total} {stage.unit}{rate}{eta}")
        states = [member.state for member in self.members.values()]
        parts.append(", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states)))
        if self.retries:
            parts.append(f"{self.retries} retries")
        if self.message:
            parts.append(self.message)
        return "; ".join(part for part in parts if part)

    def age_s(self) -> float:
        """Seconds since it was written."""
        return (datetime.now(UTC) - self.at).total_seconds()


def parse(line: str) -> ProgressRecord | None:
    """The record that a line of a log holds; none if it holds something else."""
    if not line.startswith("{"):
        return None
    try:
        return ProgressRecord.model_validate_json(line)
    except ValidationError:
        return None


def last(lines: Iterable[str]) -> ProgressRecord | None:
    """The last record of a log."""
    return next((found for found in map(parse, reversed([*lines])) if found), None)


def read(path: Path) -> ProgressRecord:
    """The record in a run's folder.

    Raises:
        ConfigError: There is none.
        DataError: It is damaged.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{str(path.parent)!r} is not the folder of a run that has begun: {path.name} cannot be "
            f"read ({error.strerror}). Expected a folder such as runs/digits-1a2b3c4d, or --address "
            "and the name of a submitted run."
        ) from error
    found = parse(text.strip())
    if found is None:
        raise DataError(f"{str(path)!r} holds no record of a run's progress; resume the run.")
    return found
