"""`ensemble submit`: what of a run is shipped to a cluster, how it is started there, and resumed."""

import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cluster.submission import ray_jobs as remote_jobs
from cluster.submission.ray_jobs import Attempt
from ensemble.errors import ConfigError
from ensemble.files import write_atomic
from jobs.progress.record import last
from jobs.settings import RunConfig
from jobs.stored_runs.layout import run_name
from jobs.stored_runs.revision import FILE_NAME, PACKAGES, read_revision

# What a job is told of its run, and whoever lists jobs may read: the folder that holds its folder.
_RUNS = "ensemble.runs"
_CONFIG = "run.json"

# Python's cache of this machine, and the pictures that READMEs show.
_NOT_SHIPPED = shutil.ignore_patterns("__pycache__", "*.png")

# Below the home folder of the head's user, where relative paths of a config then are. -P: modules
# come from what was shipped, not from that folder. exec: signals reach Python, and so does its code.
START = "cd && exec python -P -m jobs"


def submit(client: Any, config: RunConfig, stem: str, allow_partial: bool = False) -> Attempt:
    """Ship the code and the resolved config, and start the run on the head.

    Args:
        client: The connection that `cluster.submission.head.connect` opens.
        config: Checked settings; nothing of this machine's environment goes with them.
        stem: Name of the config file, for runs that have no name of their own.
        allow_partial: Whether images that kill their worker are left out.

    Raises:
        ConfigError: A run of that name was submitted before.
        ClusterError: The head refuses the job.
    """
    name = run_name(config, stem)
    number = _next_number(client, name)
    named = config.model_copy(update={"name": name})
    with shipment() as folder:
        write_atomic(folder / _CONFIG, named.model_dump_json(indent=2) + "\n")
        remote_jobs.submit(
            client,
            name,
            number,
            f'config="$PWD/{_CONFIG}"; {START} run "$config"{_options(allow_partial)}',
            folder,
            {_RUNS: str(config.runs)},
        )
    return remote_jobs.find(client, name)


def resume(client: Any, name: str, allow_partial: bool = False) -> Attempt:
    """Go on with a run that was submitted, in its own folder, with the code as it is here.

    Raises:
        ConfigError: The run is still under way, or the cluster has no run of that name.
        ClusterError: The head refuses the job.
    """
    before = remote_jobs.find(client, name)
    if not before.is_over:
        raise ConfigError(
            f"the run {name!r} {before.how}. Follow it with `ensemble logs {name} -f`, or "
            f"stop it with `ensemble stop {name}`."
        )
    runs = before.metadata[_RUNS]
    with shipment() as folder:
        run = shlex.quote(f"{runs}/{name}")
        entrypoint = f"{START} resume {run}{_options(allow_partial)}"
        remote_jobs.submit(client, name, before.number + 1, entrypoint, folder, before.metadata)
    return remote_jobs.find(client, name)


def _options(allow_partial: bool) -> str:
    return " --json-log" + (" --allow-partial" if allow_partial else "")


def folder_of(attempt: Attempt) -> str:
    """Locate the folder of a submitted run on the head."""
    runs = Path(attempt.metadata[_RUNS])
    return str((runs if runs.is_absolute() else "~" / runs) / attempt.run)


def needed_paths(config: RunConfig) -> tuple[str, ...]:
    """List the files and folders of the config that are not shipped, and the cluster's machines must have."""
    return tuple(sorted({str(path) for path in _paths(config) if path != config.runs}))


def _paths(value: object) -> Iterator[Path]:
    if isinstance(value, Path):
        yield value
    elif isinstance(value, str) and value.startswith("/"):
        yield Path(value)  # a setting that takes a path or s3://
    elif isinstance(value, BaseModel):
        yield from (
            path for name in type(value).model_fields for path in _paths(getattr(value, name))
        )
    elif isinstance(value, dict):
        yield from (path for item in value.values() for path in _paths(item))
    elif isinstance(value, tuple | list):
        yield from (path for item in value for path in _paths(item))


def _next_number(client: Any, name: str) -> int:
    """The number of the first attempt at a run; more than 1 after attempts that ended before they began.

    Raises:
        ConfigError: The run has begun.
    """
    before = next((run for run in remote_jobs.list_runs(client) if run.run == name), None)
    if before is None:
        return 1
    if before.is_over and last(remote_jobs.logs(client, before)) is None:
        return before.number + 1
    hint = (
        f"`ensemble resume {name}` goes on with it"
        if before.is_over
        else f"`ensemble logs {name} -f` follows it"
    )
    raise ConfigError(
        f"the run {name!r} was submitted before, and {before.how}: {hint}. Give another --name for "
        "a run of its own."
    )


@contextmanager
def shipment() -> Iterator[Path]:
    """A folder with this project's packages and their revision: all that travels, but the config."""
    root = Path(__file__).parent.parent
    with tempfile.TemporaryDirectory(prefix="ensemble-") as name:
        folder = Path(name)
        for package in PACKAGES:
            shutil.copytree(root / package, folder / package, ignore=_NOT_SHIPPED)
        write_atomic(folder / FILE_NAME, read_revision().model_dump_json() + "\n")
        yield folder
