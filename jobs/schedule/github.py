"""A workflow for GitHub Actions."""

import re
import shlex
from pathlib import Path, PurePosixPath

from ensemble.errors import ConfigError
from jobs.schedule.kubernetes import dump
from jobs.schedule.nights import Nights, ScheduleFile, comment

# At a full hour GitHub starts workflows late, and leaves some out.
_MINUTE = 17


def render(nights: Nights) -> list[ScheduleFile]:
    """Write a workflow that runs a night of the suite in the repository, and keeps its pages.

    Raises:
        ConfigError: The suite lies outside of the folder where the command was started.
    """
    try:
        suite = PurePosixPath(nights.suite.resolve().relative_to(Path.cwd()))
    except ValueError as error:
        raise ConfigError(
            f"{nights.suite} is not below {Path.cwd()}. Expected a suite of the repository: start the command "
            "in the repository's first folder."
        ) from error
    fields = re.sub(r"^0 ", f"{_MINUTE} ", nights.time.fields)
    lines = [
        f"The nights of {suite}. Commit this file as .github/workflows/{nights.name}.yaml. The suite's folder of",
        "results must be on S3 (its keys as secrets of the repository): a runner keeps no files.",
        "GitHub starts workflows hours late, leaves some out, and switches a schedule off after 60 days without",
        "activity in a public repository. So another clock must watch this one, as by this line of cron elsewhere:",
        f"0 * * * * {shlex.join(nights.check_command(str(suite), 'ensemble'))}",
    ]
    if fields != nights.time.fields:
        lines.append(
            f"Started {_MINUTE} minutes later than asked: at full hours GitHub is busiest."
        )
    words = nights.command(str(suite), "ensemble")
    document = {
        "name": nights.name,
        "on": {
            "schedule": [{"cron": fields, "timezone": nights.time.timezone}],
            "workflow_dispatch": {},
        },
        "permissions": {"contents": "read"},
        "concurrency": {"group": nights.name, "cancel-in-progress": False},
        "jobs": {
            "night": {
                "runs-on": "ubuntu-latest",
                "timeout-minutes": nights.timeout_hours * 60,
                "env": {
                    key: f"${{{{ secrets.{key} }}}}"
                    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
                },
                "steps": [
                    {"uses": "actions/checkout@v5"},
                    {"uses": "actions/setup-python@v6", "with": {"python-version": "3.11"}},
                    {"run": "pip install ."},
                    {"run": shlex.join(words)},
                ],
            }
        },
    }
    return [ScheduleFile(f"{nights.name}.yaml", comment(*lines) + dump(document))]
