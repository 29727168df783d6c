"""The verbs that speak to a cluster: submit, status, logs, stop, list. Parses and prints."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ensemble.errors import ConfigError

if TYPE_CHECKING:
    from cluster.submission.ray_jobs import Attempt
    from jobs.progress.record import ProgressRecord
    from jobs.settings import RunConfig

Address = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="RAY_API_SERVER_ADDRESS",
        help="Of the head's dashboard, as http://127.0.0.1:8265 through a tunnel.",
    ),
]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Accept a head that lets in everybody without a token.")
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Wait = Annotated[
    bool, typer.Option("--wait", help="Follow the log, and end with the run's own exit code.")
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Of a run that was submitted.")]


def submit(
    config: "RunConfig",
    stem: str,
    address: str | None,
    is_insecure: bool,
    is_waiting: bool,
    allow_partial: bool,
) -> None:
    """Ship a run to a cluster and start it there."""
    from cluster.submission.head import connect
    from jobs import submit as job

    client = connect(address, is_insecure)
    attempt = job.submit(client, config, stem, allow_partial)
    typer.echo(f"submitted {attempt.run} to {address}; its folder there: {job.folder_of(attempt)}")
    if paths := job.needed_paths(config):
        typer.echo(f"not shipped, the cluster's machines must have: {', '.join(paths)}")
    _go_on(client, attempt, is_waiting)


def resume(
    name: str, address: str | None, is_insecure: bool, is_waiting: bool, allow_partial: bool
) -> None:
    """Go on with a run on a cluster."""
    from cluster.submission.head import connect
    from jobs import submit as job

    client = connect(address, is_insecure)
    attempt = job.resume(client, name, allow_partial)
    typer.echo(f"goes on with {attempt.run} on {address}, attempt {attempt.number}")
    _go_on(client, attempt, is_waiting)


def status(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="Of a run that was submitted, the newest if there is none; or a run's folder.",
        ),
    ] = None,
    address: Address = None,
    insecure: Insecure = False,
    as_json: AsJson = False,
) -> None:
    """Tell what a run is at, or how it ended."""
    from jobs.progress import record as progress_record

    if name is not None and is_local(name, address):
        from jobs.stored_runs.layout import RunFolder

        _show(None, progress_record.read(RunFolder(Path(name)).progress_json), as_json)
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
    _show(attempt, record, as_json)
    if record is None and lines and not as_json:
        typer.echo(lines[-1])


def logs(
    name: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the run ends.")] = False,
    address: Address = None,
    insecure: Insecure = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="The progress records only, one a line.")
    ] = False,
) -> None:
    """Print what a run's driver printed."""
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
    """Stop a run so that it can be resumed: what it has computed is kept."""
    from cluster.submission import ray_jobs as remote_jobs
    from cluster.submission.head import connect

    client = connect(address, insecure)
    attempt = remote_jobs.find(client, name)
    if attempt.is_over:
        typer.echo(f"{name} {attempt.how} already")
        return
    attempt = remote_jobs.stop(client, attempt)
    typer.echo(f"{name} {attempt.how}; `ensemble resume {name}` goes on with it")


def list_runs(address: Address = None, insecure: Insecure = False, as_json: AsJson = False) -> None:
    """List the runs that were submitted to a cluster."""
    from cluster.submission import ray_jobs as remote_jobs
    from cluster.submission.head import connect

    runs = remote_jobs.list_runs(connect(address, insecure))
    if as_json:
        typer.echo(json.dumps([_document(run) for run in runs], indent=2))
        return
    width = max((len(run.run) for run in runs), default=0)
    for run in runs:
        typer.echo(f"{run.run:{width}}  {_describe(run)}")


def is_local(name: str, address: str | None) -> bool:
    """Whether a word means a folder of this machine: always if it is a path, else without a cluster."""
    return address is None or "/" in name


def _go_on(client: Any, attempt: "Attempt", is_waiting: bool) -> None:
    if not is_waiting:
        typer.echo(f"follow it with: ensemble logs {attempt.run} -f")
        return
    from cluster.submission import ray_jobs as remote_jobs

    _follow(client, attempt, False)
    attempt = remote_jobs.wait(client, attempt)
    typer.echo(f"{attempt.run}: {_describe(attempt)}")
    if attempt.exit_code:
        raise typer.Exit(attempt.exit_code)


def _follow(client: Any, attempt: "Attempt", as_json: bool) -> None:
    from cluster.submission import ray_jobs as remote_jobs

    try:
        remote_jobs.follow(client, attempt, lambda line: _print_line(line, as_json))
    except KeyboardInterrupt:
        typer.echo(f"{attempt.run} goes on without you", err=True)
        raise typer.Exit(130) from None


def _print_line(line: str, as_json: bool) -> None:
    from jobs.progress.record import parse

    record = parse(line)
    if as_json and record:
        typer.echo(line)
    elif not as_json:
        typer.echo(record.describe() if record else line)


def _show(attempt: "Attempt | None", record: "ProgressRecord | None", as_json: bool) -> None:
    if as_json:
        document = _document(attempt) if attempt else {}
        document["progress"] = record.model_dump(mode="json") if record else None
        typer.echo(json.dumps(document, indent=2))
        return
    if attempt:
        typer.echo(f"{attempt.run}: {_describe(attempt)}")
    if record is None:
        return
    is_silent = record.state == "running" and record.age_s() > 60
    heard = f"; last heard of {record.age_s():.0f} s ago" if is_silent else ""
    typer.echo(f"{record.describe()}{heard}")
    for name, member in record.members.items():
        rate = f", {member.images} images at {member.images_per_s:.0f}/s" if member.images else ""
        again = f", {member.retries} retries" if member.retries else ""
        typer.echo(f"  {name}: {member.state}{rate}{again}")


def _describe(attempt: "Attempt") -> str:
    began = f"{attempt.started_at:%Y-%m-%d %H:%M:%S} UTC" if attempt.started_at else "not begun"
    code = f", exit code {attempt.exit_code}" if attempt.is_over else ""
    seconds = ""
    if attempt.started_at and attempt.ended_at:
        seconds = f", {(attempt.ended_at - attempt.started_at).total_seconds():.0f} s"
    return f"{attempt.state}{code}, attempt {attempt.number}, submitted {began}{seconds}"


def _document(attempt: "Attempt") -> dict[str, Any]:
    return {
        "run": attempt.run,
        "state": attempt.state,
        "exit_code": attempt.exit_code,
        "attempt": attempt.number,
        "job": attempt.job,
        "started_at": attempt.started_at.isoformat() if attempt.started_at else None,
        "ended_at": attempt.ended_at.isoformat() if attempt.ended_at else None,
    }
