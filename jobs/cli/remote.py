"""The verbs that speak to a cluster: submit, status, logs, stop, list."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ensemble.errors import ConfigError
from jobs.cli.app import EXIT_INTERRUPTED, AllowPartial, AsJson, Words, split_config
from jobs.cli.attempts import describe, to_document
from jobs.terminal import echo

if TYPE_CHECKING:
    from cluster.submission.ray_jobs import Attempt
    from jobs.progress.record import ProgressRecord

Address = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="RAY_API_SERVER_ADDRESS",
        help="The URL of the dashboard of a cluster's head, as http://127.0.0.1:8265 through a tunnel.",
    ),
]
Insecure = Annotated[
    bool,
    typer.Option(
        "--insecure", help="Use a head that accepts everybody because it asks for no token."
    ),
]
Wait = Annotated[
    bool,
    typer.Option(
        "--wait", help="Follow the log until the run ends, and end with the run's own exit code."
    ),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of a submitted run.")]


def submit(
    words: Words = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The name of the run; the same as name=NAME among the settings."
        ),
    ] = None,
    address: Address = None,
    insecure: Insecure = False,
    wait: Wait = False,
    allow_partial: AllowPartial = False,
) -> None:
    """Do the main job on a cluster. The code and the resolved config are shipped, secrets are not."""
    from cluster.submission.head import connect
    from jobs import submit as job
    from jobs.progress.live import working
    from jobs.settings import load_run_config

    path, overrides = split_config(words)
    config = load_run_config(path, [*overrides, *([f"name='{name}'"] if name else [])])
    with working("submit", f"ship the run to {address}"):
        client = connect(address, insecure)
        attempt = job.submit(client, config, path.stem, allow_partial)
    echo(f"submitted {attempt.run} to {address}; its folder there: {job.folder_of(attempt)}")
    if paths := job.needed_paths(config):
        echo(f"not shipped, the cluster's machines must have: {', '.join(paths)}")
    go_on(client, attempt, wait)


def resume_submitted(
    name: str, address: str | None, insecure: bool, wait: bool, allow_partial: bool
) -> None:
    """Go on with a submitted run on its cluster."""
    from cluster.submission.head import connect
    from jobs import submit as job
    from jobs.progress.live import working

    with working("resume", f"ship the code of {name} to {address}"):
        client = connect(address, insecure)
        attempt = job.resume(client, name, allow_partial)
    echo(f"goes on with {attempt.run} on {address}, attempt {attempt.number}")
    go_on(client, attempt, wait)


def status(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="The name of a submitted run (the newest one if it is left out), or the folder of a "
            "run on this machine.",
        ),
    ] = None,
    address: Address = None,
    insecure: Insecure = False,
    as_json: AsJson = False,
) -> None:
    """Tell what stage a run is in and how far each member is, or how the run ended."""
    from jobs.progress import record as progress_record

    if name is not None and is_local(name, address):
        from jobs.stored_runs.layout import RunFolder

        _show(None, progress_record.read(RunFolder(Path(name))).seen_now(), as_json)
        return
    from cluster.submission import ray_jobs as remote_jobs
    from cluster.submission.head import connect

    client = connect(address, insecure)
    if name is None:
        runs = remote_jobs.list_runs(client)
        if not runs:
            raise ConfigError(f"no run was submitted to {address} yet.")
        attempt = runs[0]
    else:
        attempt = remote_jobs.find(client, name)
    lines = remote_jobs.logs(client, attempt)
    record = progress_record.last(lines)
    _show(attempt, record and record.seen_now(attempt.is_over), as_json)
    if record is None and lines and not as_json:
        echo(lines[-1])


def logs(
    name: Name,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on printing new lines until the run ends.")
    ] = False,
    address: Address = None,
    insecure: Insecure = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print only the progress records, each as one line of JSON."),
    ] = False,
) -> None:
    """Print the log of a submitted run: what its driver printed."""
    from cluster.submission import ray_jobs as remote_jobs
    from cluster.submission.head import connect

    client = connect(address, insecure)
    attempt = remote_jobs.find(client, name)
    if follow:
        _follow(client, attempt, as_json)
        return
    for line in remote_jobs.logs(client, attempt):
        _print_line(line, as_json)


def stop(name: Name, address: Address = None, insecure: Insecure = False) -> None:
    """Stop a submitted run. What it has computed is kept; `ensemble resume NAME` goes on with it."""
    from cluster.submission import ray_jobs as remote_jobs
    from cluster.submission.head import connect

    client = connect(address, insecure)
    attempt = remote_jobs.find(client, name)
    if attempt.is_over:
        echo(f"{name} {attempt.how} already")
        return
    attempt = remote_jobs.stop(client, attempt)
    echo(f"{name} {attempt.how}; `ensemble resume {name}` goes on with it")


def list_runs(address: Address = None, insecure: Insecure = False, as_json: AsJson = False) -> None:
    """List the runs that were submitted to a cluster, the newest first."""
    from cluster.submission import ray_jobs as remote_jobs
    from cluster.submission.head import connect

    runs = remote_jobs.list_runs(connect(address, insecure))
    if as_json:
        echo(json.dumps([to_document(run) for run in runs], indent=2))
        return
    width = max((len(run.run) for run in runs), default=0)
    for run in runs:
        echo(f"{run.run:{width}}  {describe(run)}")


def is_local(name: str, address: str | None) -> bool:
    """Whether a word means a folder of this machine: always if it is a path, else without a cluster."""
    return address is None or "/" in name or name in (".", "..")


def go_on(client: Any, attempt: "Attempt", is_waiting: bool) -> None:
    """Say how to follow a submitted job; or follow it, and end with its exit code."""
    if not is_waiting:
        echo(f"follow it with: ensemble logs {attempt.run} -f")
        return
    from cluster.submission import ray_jobs as remote_jobs

    _follow(client, attempt, False)
    attempt = remote_jobs.wait(client, attempt)
    echo(f"{attempt.run}: {describe(attempt)}")
    if attempt.exit_code:
        raise typer.Exit(attempt.exit_code)


def _follow(client: Any, attempt: "Attempt", as_json: bool) -> None:
    from cluster.submission import ray_jobs as remote_jobs

    try:
        remote_jobs.follow(client, attempt, lambda line: _print_line(line, as_json))
    except KeyboardInterrupt:
        echo(f"{attempt.run} goes on without you", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _print_line(line: str, as_json: bool) -> None:
    from jobs.progress.record import parse

    record = parse(line)
    if as_json and record:
        echo(line)
    elif not as_json:
        echo(record.describe() if record else line)


def _show(attempt: "Attempt | None", record: "ProgressRecord | None", as_json: bool) -> None:
    if as_json:
        document = to_document(attempt) if attempt else {}
        document["progress"] = record.model_dump(mode="json") if record else None
        echo(json.dumps(document, indent=2))
        return
    if attempt:
        echo(f"{attempt.run}: {describe(attempt)}")
    if record is None:
        return
    echo(f"{record.describe()}{record.describe_silence()}")
    for name, member in record.members.items():
        rate = f", {member.images} images at {member.images_per_s:.0f}/s" if member.images else ""
        again = f", {member.retries} retries" if member.retries else ""
        detail = f", {member.detail}" if member.detail else ""
        echo(f"  {name}: {member.state}{detail}{rate}{again}")
