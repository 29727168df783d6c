"""What every scheduler is told of the nights of a suite: when, with which command, and for how long at most."""

import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from jobs.cli.app import EXIT_NOT_COMPARABLE, EXIT_PARTIAL, EXIT_REGRESSION, EXIT_USAGE
from jobs.schedule.cron import CronTime

# A night that was judged ends with 0, or with one of these: a regression, figures that cannot be compared, a
# part that is missing. To start it again would give the same, and so it would where a word is wrong.
JUDGED_CODES = (EXIT_REGRESSION, EXIT_NOT_COMPARABLE, EXIT_PARTIAL)
FINAL_CODES = (EXIT_USAGE, *JUDGED_CODES)

# A killed night is started again, and goes on where it stopped.
RETRIES, RETRY_AFTER_S = 2, 300

# Hours that a night may be late before it counts as missed, beside those between two nights.
_LATE_HOURS = 2

_NOT_IN_NAMES, _NAME_LENGTH = re.compile(r"[^a-z0-9]+"), 35


@dataclass(frozen=True)
class ScheduleFile:
    """A file of a schedule.

    Attributes:
        name: Name of the file, or its path in a repository.
        text: What it holds.
    """

    name: str
    text: str


@dataclass(frozen=True)
class Nights:
    """The nights of a suite.

    Attributes:
        suite: The suite's file, as it was named.
        time: When a night starts.
        address: URL of the dashboard of a cluster that the nights run on; this machine if None.
        timeout_hours: Hours after which a night is ended.
    """

    suite: Path
    time: CronTime
    address: str | None
    timeout_hours: int

    @property
    def name(self) -> str:
        """Name of the schedule: letters, digits and hyphens, as Kubernetes allows."""
        stem = _NOT_IN_NAMES.sub("-", self.suite.stem.lower())[:_NAME_LENGTH].strip("-")
        return f"ensemble-nightly-{stem}".rstrip("-")

    @property
    def timeout_s(self) -> int:
        """Seconds after which a night is ended."""
        return self.timeout_hours * 3600

    def words(self, suite: str | None = None, program: str | None = None) -> list[str]:
        """Return the words of the command of a night, on the machine or cluster that it is started on.

        Args:
            suite: Path of the suite where the command runs; its absolute path here if None.
            program: The `ensemble` command there; the one of this environment if None.
        """
        return [program or _program(), "nightly", suite or str(self.suite.resolve())]

    def command(self, suite: str | None = None, program: str | None = None) -> list[str]:
        """Return the words of the command of a night, on the cluster if there is an address.

        Args:
            suite: Path of the suite where the command runs; its absolute path here if None.
            program: The `ensemble` command there; the one of this environment if None.
        """
        return self.words(suite, program) + (on_cluster(self.address) if self.address else [])

    def check_command(self, suite: str | None = None, program: str | None = None) -> list[str]:
        """Return the words of the command that tells whether a night was missed."""
        max_age = f"{self.time.longest_gap_hours + _LATE_HOURS}h"
        words = [program or _program(), "nightly", "check", suite or str(self.suite.resolve())]
        return [*words, "--max-age", max_age]


def on_cluster(address: str) -> list[str]:
    """Return the options that run a night on a cluster, and end with the night's own exit code."""
    return ["--address", address, "--wait"]


def comment(*paragraphs: str) -> str:
    """Write lines as comments of a file whose comments begin with a number sign."""
    lines = [line for paragraph in paragraphs for line in paragraph.splitlines()]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)


def _program() -> str:
    """Return the absolute path of the `ensemble` command, for schedulers that have another PATH."""
    beside = Path(sys.executable).parent / "ensemble"
    return str(beside) if beside.exists() else shutil.which("ensemble") or "ensemble"
