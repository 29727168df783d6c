"""The progress of a run as one value, for its log, its folder and `ensemble status`."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal, Self

from pydantic import AwareDatetime, NonNegativeInt

from ensemble.config import Config
from ensemble.errors import DataError
from ensemble.files import seal, unseal
from ensemble.table.lease_holder import is_running
from jobs.stored_runs.layout import RunFolder, not_a_run

State = Literal["running", "finished", "stopped", "failed", "lost"]

# A driver writes its record every five seconds.
SILENT_AFTER_S = 60.0


class MemberRecord(Config):
    """The progress of one member or sub-classifier."""

    state: str
    """What the member does, such as queued, training, predicting or predicted."""
    images: int = 0
    """Forward passes that this run computed; each view of an image is one."""
    images_per_s: float = 0.0
    """Forward passes per second of the time that the member computed."""
    retries: int = 0
    """Calls that were made again after a failure."""
    detail: str = ""
    """How far it is, such as epoch 3 of 30."""


class StageRecord(Config):
    """The progress of a stage under way."""

    name: str
    """Name of the stage, such as predict."""
    done: int
    """Number of units that are done."""
    total: int
    """Number of units in all."""
    unit: str
    """What the units are, such as blocks."""
    images_per_s: float
    """Forward passes per second of the clock; 0 where none are made."""
    eta_s: float | None
    """Seconds to go at the pace so far; null before anything is done."""
    seconds: float
    """Seconds since the stage began."""


class ProgressRecord(Config):
    """The progress of a run at a moment."""

    schema_version: Literal[1] = 1
    """Version of this format."""
    run: str
    """Name of the run."""
    state: State
    """State of the run; a run that was stopped or lost goes on with `ensemble resume`."""
    at: AwareDatetime
    """Time at which this record was written."""
    seconds: float
    """Seconds since the run began."""
    stages: tuple[StageRecord, ...]
    """The stages under way."""
    members: dict[str, MemberRecord]
    """The progress of each member, by name."""
    retries: int
    """Calls that were made again after a failure, over all members."""
    message: str = ""
    """Why the run failed; empty if it did not."""
    pid: NonNegativeInt = 0
    """Process id of the run's driver; 0 where it is not known."""
    process: str = ""
    """What tells the driver from a later process with the same id; empty where it is not known."""

    def describe(self) -> str:
        """Tell the progress of the run in one line."""
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

    def seen_now(self, is_over: bool | None = None) -> Self:
        """Give the record as it holds now: a run whose driver has ended without a word is lost.

        Args:
            is_over: Whether the driver has ended, where somebody else knows it; none if not.
        """
        if self.state != "running":
            return self
        is_here = is_running(self.pid, self.process)
        why = "its process has ended without a word"
        if is_over is None and is_here is None and self.age_s() > SILENT_AFTER_S:
            is_over, why = True, f"nothing was heard of it for {self.age_s():.0f} s"
        if not is_over and is_here is not False:
            return self
        hint = "`ensemble resume` goes on from what is finished"
        return self.model_copy(update={"state": "lost", "stages": (), "message": f"{why}; {hint}"})

    def describe_silence(self) -> str:
        """Tell when a run that goes on was last heard of; empty if that is not long ago."""
        is_silent = self.state == "running" and self.age_s() > SILENT_AFTER_S
        return f"; last heard of {self.age_s():.0f} s ago" if is_silent else ""

    def age_s(self) -> float:
        """Give the seconds since the record was written."""
        return (datetime.now(UTC) - self.at).total_seconds()


def format_for_file(record: ProgressRecord) -> str:
    """Format a record as the text of progress.json, which holds its own SHA-256."""
    return json.dumps(seal(record.model_dump(mode="json"))) + "\n"


def parse(line: str) -> ProgressRecord | None:
    """Read the record that a line of a log holds; none if the line holds something else."""
    if not line.startswith("{"):
        return None
    try:
        # A record in a file holds its own SHA-256.
        return ProgressRecord.model_validate_json(json.dumps(unseal(json.loads(line))))
    except (ValueError, RecursionError):  # pydantic's error is a ValueError
        return None


def last(lines: Iterable[str]) -> ProgressRecord | None:
    """Find the last record in a log; none if there is no record in it."""
    return next((record for record in map(parse, reversed([*lines])) if record), None)


def read(folder: RunFolder) -> ProgressRecord:
    """Read the record in a run's folder.

    Raises:
        ConfigError: The folder is not that of a run that has begun.
        DataError: The record is damaged.
    """
    path = folder.progress_json
    try:
        text = path.read_bytes().decode(errors="replace")
    except OSError as error:
        raise not_a_run(str(folder.path), path.name) from error
    record = parse(text.strip())
    if record is None:
        raise DataError(
            f"{str(path)!r} holds no record of a run's progress. Expected one JSON record; "
            f"`ensemble resume {folder.path}` writes it again."
        )
    return record
