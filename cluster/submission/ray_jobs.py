"""Runs on a cluster as Ray jobs: submit, find, follow, stop. The command of a job is its caller's business."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from aiohttp import ClientError
from ray.exceptions import RayError

from ensemble.errors import ClusterError, ConfigError, UnknownNameError

# Seconds that a driver gets to close its table after SIGTERM; Ray's own default is 3.
STOP_WAIT_S = 60
POLL_EVERY_S = 0.5

# Exit codes of a driver that was stopped, and of one that ended without a code that programs may have.
_STOPPED, _FAILED = 130, 1
_RUN, _ATTEMPT = "ensemble.run", "ensemble.attempt"

State = Literal["pending", "running", "succeeded", "failed", "stopped"]


@dataclass(frozen=True)
class Attempt:
    """One Ray job that works on a run; the first one has the run's name as its submission id.

    Attributes:
        run: Name of the run.
        number: 1 for the submission, and one more for each time that the run was resumed.
        job: Ray's submission id.
        state: State of the job.
        exit_code: Exit code that stands for its end; none while it runs.
        started_at: When it was submitted.
        ended_at: When it ended.
        message: Ray's message about its state.
        metadata: Metadata that it was submitted with.
    """

    run: str
    number: int
    job: str
    state: State
    exit_code: int | None
    started_at: datetime | None
    ended_at: datetime | None
    message: str
    metadata: Mapping[str, str]

    @property
    def how(self) -> str:
        """The state as the end of a sentence."""
        words = {"failed": "has failed", "succeeded": "has succeeded", "stopped": "was stopped"}
        return words.get(self.state, f"is {self.state}")

    @property
    def is_over(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.state not in ("pending", "running")


def exit_code_of(state: State, driver_exit_code: int | None) -> int | None:
    """Return the code that a process that waits for the job ends with; none while the job runs.

    A driver that a signal ended, or that never came to start, has failed.
    """
    if state in ("pending", "running"):
        return None
    if state == "stopped":
        return _STOPPED
    if state == "succeeded":
        return 0
    is_own = driver_exit_code is not None and 0 < driver_exit_code < 128
    return driver_exit_code if is_own else _FAILED


def submit(
    client: Any, run: str, number: int, entrypoint: str, folder: Path, metadata: Mapping[str, str]
) -> str:
    """Ship a folder, and start a command in it on the head.

    Args:
        client: Client from `cluster.submission.head.connect`.
        run: Name of the run.
        number: Number of the attempt.
        entrypoint: Shell command.
        folder: Folder that becomes the job's working directory; its modules can be imported.
        metadata: Texts kept with the job, which everybody who may list jobs can read.

    Returns:
        Ray's submission id.

    Raises:
        ConfigError: The same attempt was submitted meanwhile.
        ClusterError: The head refuses the job, or the connection is lost.
    """
    # No entrypoint resources: with any, Ray may place the driver on a spot machine.
    with _translated(run):
        job: str = client.submit_job(
            entrypoint=entrypoint,
            submission_id=_job_of(run, number),
            runtime_env={
                "working_dir": str(folder),
                "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)},
            },
            metadata={**metadata, _RUN: run, _ATTEMPT: str(number)},
        )
    return job


def list_runs(client: Any) -> tuple[Attempt, ...]:
    """List the last attempt of every run that the head remembers, the newest first.

    Raises:
        ClusterError: The head answers with an error, or the connection is lost.
    """
    with _translated():
        jobs = client.list_jobs()
    last: dict[str, Attempt] = {}
    for attempt in (_attempt(job) for job in jobs if _RUN in (job.metadata or {})):
        if attempt.run not in last or last[attempt.run].number < attempt.number:
            last[attempt.run] = attempt
    epoch = datetime.fromtimestamp(0, UTC)
    return tuple(sorted(last.values(), key=lambda a: (a.started_at or epoch, a.run), reverse=True))


def find(client: Any, run: str) -> Attempt:
    """Find the last attempt of a run.

    Raises:
        ConfigError: The head knows no such run.
        ClusterError: The head answers with an error, or the connection is lost.
    """
    runs = {attempt.run: attempt for attempt in list_runs(client)}
    if not runs:
        raise ConfigError(f"no run {run!r} on this cluster: none was submitted to it yet.")
    if run not in runs:
        raise UnknownNameError.of("submitted run", run, runs)
    return runs[run]


def logs(client: Any, attempt: Attempt) -> list[str]:
    """Read all lines that the driver has printed so far.

    Raises:
        ClusterError: The head answers with an error, or the connection is lost.
    """
    with _translated():
        text: str = client.get_job_logs(attempt.job)
    return text.splitlines()


def follow(client: Any, attempt: Attempt, on_line: Callable[[str], None]) -> None:
    """Hand over the driver's lines as it prints them, until it ends.

    Raises:
        ClusterError: The connection was lost.
    """

    async def tail() -> None:
        rest = ""
        async for chunk in client.tail_job_logs(attempt.job):
            *lines, rest = f"{rest}{chunk}".split("\n")
            for line in lines:
                on_line(line)
        if rest:
            on_line(rest)

    with _translated():
        asyncio.run(tail())


def wait(client: Any, attempt: Attempt, timeout_s: float | None = None) -> Attempt:
    """Wait until an attempt is over.

    Raises:
        ClusterError: The attempt is not over after `timeout_s` seconds, or the connection is lost.
    """
    began = time.monotonic()
    while not attempt.is_over:
        if timeout_s is not None and time.monotonic() - began > timeout_s:
            raise ClusterError(
                f"the run {attempt.run!r} is still {attempt.state} after {timeout_s:.0f} s. Look at "
                f"`ensemble logs {attempt.run}`, and try again."
            )
        time.sleep(POLL_EVERY_S)
        attempt = _again(client, attempt)
    return attempt


def stop(client: Any, attempt: Attempt) -> Attempt:
    """Ask the driver to end, wait until it has, and return how it ended.

    Raises:
        ClusterError: The driver does not end in time, or the connection is lost.
    """
    with _translated():
        client.stop_job(attempt.job)
    return wait(client, attempt, STOP_WAIT_S + 30)


def _again(client: Any, attempt: Attempt) -> Attempt:
    with _translated():
        return _attempt(client.get_job_info(attempt.job))


def _job_of(run: str, number: int) -> str:
    # A run's name has no tilde, so that this is no other run's.
    return run if number == 1 else f"{run}~{number}"


def _attempt(job: Any) -> Attempt:
    state = str(getattr(job.status, "value", job.status)).lower()
    metadata = job.metadata or {}
    return Attempt(
        run=metadata[_RUN],
        number=int(metadata[_ATTEMPT]),
        job=job.submission_id,
        state=state,  # type: ignore[arg-type]
        exit_code=exit_code_of(state, job.driver_exit_code),  # type: ignore[arg-type]
        started_at=_moment(job.start_time),
        ended_at=_moment(job.end_time),
        message=job.message or "",
        metadata=metadata,
    )


def _moment(milliseconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None


@contextmanager
def _translated(run: str = "") -> Iterator[None]:
    """The one place where what the Jobs API raises becomes ours."""
    try:
        yield
    except (OSError, ClientError) as error:
        raise ClusterError(
            f"the connection to the head was lost ({type(error).__name__}). Is the cluster still up?"
        ) from error
    except (RuntimeError, ValueError, RayError) as error:
        if "already exists" in str(error):
            raise ConfigError(f"the run {run!r} was submitted a moment ago by another.") from error
        # Ray quotes the whole traceback of the head; its last line says it.
        lines = [line for line in str(error).splitlines() if line.strip()] or [""]
        raise ClusterError(f"the head refuses: {lines[-1].strip()}") from error
