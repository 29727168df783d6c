"""A night as a Ray job: the suite travels with the code, under a name that a date can have only once."""

from datetime import date
from pathlib import Path
from typing import Any

from cluster.submission import ray_jobs
from cluster.submission.ray_jobs import Attempt
from ensemble.errors import ConfigError
from ensemble.files import write_atomic
from jobs.cli.app import EXIT_NOT_COMPARABLE, EXIT_REGRESSION
from jobs.nightly.suite import SuiteConfig
from jobs.submit import START, shipment

_SUITE = "suite.json"


def submit_night(client: Any, suite: SuiteConfig, on: date, *, is_smoke: bool = False) -> Attempt:
    """Ship the code and the resolved suite, and start the night on the head.

    A night that failed, or that could not judge every row, is submitted once more, and goes on with what it
    predicted.

    Args:
        client: The connection that `cluster.submission.head.connect` opens.
        suite: Checked settings; paths in them are those of the head.
        on: Date that the night is of.
        is_smoke: Judge a few images only.

    Raises:
        ConfigError: The night of that date is under way, or was judged.
        ClusterError: The head refuses the job.
    """
    name = f"nightly-{suite.name}-{on}{'-smoke' if is_smoke else ''}"
    before = next((run for run in ray_jobs.list_runs(client) if run.run == name), None)
    if before is not None and (
        not before.is_over or before.exit_code in (0, EXIT_REGRESSION, EXIT_NOT_COMPARABLE)
    ):
        raise ConfigError(
            f"the night {name!r} was submitted before, and {before.how}: `ensemble logs {name}` shows it. One "
            "night a date is kept; give another --date."
        )
    number = 1 if before is None else before.number + 1
    words = f'nightly run "$suite" --date {on}{" --smoke" if is_smoke else ""}'
    with shipment() as folder:
        write_atomic(Path(folder) / _SUITE, suite.model_dump_json(indent=2, exclude_unset=True))
        # The suite's folder is that of the job; relative paths in it start at the home folder instead.
        entrypoint = f'suite="$PWD/{_SUITE}"; {START} {words} --here'
        ray_jobs.submit(client, name, number, entrypoint, folder, {})
    return ray_jobs.find(client, name)
