"""jobs / cli / run: say here what this file is responsible for."""

from typing import TYPE_CHECKING, Annotated

import typer

from ensemble.errors import ConfigError
from jobs.cli import remote

if TYPE_CHECKING:
    from rich.console import Console

    from jobs.settings import RunConfig
    from jobs.stored_runs.layout import RunFolder
from jobs.cli.app import (
    EXIT_INTERRUPTED,
    LOG_WIDTH,
    AllowPartial,
    JsonLog,
    Words,
    _split_words,
    app,
)


@app.command()
def run(
    words: Words = None, allow_partial: AllowPartial = False, json_log: JsonLog = False
) -> None:
    """Do the main job: train or load the pool, predict, search, fine-tune, evaluate, report."""
    path, overrides = _split_words(words)
    from jobs.settings import load_run_config

    config = load_run_config(path, overrides)
    from rich.console import Console

    from jobs.stored_runs.layout import open_run_folder

    folder = open_run_folder(config, path.stem)
    console = Console()
    if not console.is_terminal:
        console.width = LOG_WIDTH
    _do(config, folder, console, allow_partial, json_log)


@app.command()
def plan(
    words: Words = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="A cluster: its dashboard, as http://127.0.0.1:8265, or 10.0.0.1:6379; "
            "RAY_ADDRESS if not set."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show what a run would take: members on hosts and GPUs, seconds, GPU-hours. Computes nothing."""
    path, overrides = _split_words(words)
    from jobs.settings import load_run_config

    config = load_run_config(path, overrides)
    from rich.console import Console

    from jobs.plan import estimate as job

    found = job.plan(config, address)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
        return
    console = Console()
    if not console.is_terminal:
        console.width = LOG_WIDTH
    job.show(found, console)


@app.command()
def resume(
    name: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="Folder of a run that was begun, or s3://…; with --address a submitted run's name.",
        ),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[storage.key=value]...",
            help="How S3 is reached; for a run at s3:// also runs=PATH, where its folder here goes.",
        ),
    ] = None,
    address: remote.Address = None,
    insecure: remote.Insecure = False,
    wait: remote.Wait = False,
    allow_partial: AllowPartial = False,
    json_log: JsonLog = False,
) -> None:
    """Go on with a run where it stopped, with the settings it was begun with."""
    if not remote.is_local(name, address):
        if words:
            raise ConfigError(f"{words[0]!r}: a submitted run goes on with the settings it has.")
        remote.resume(name, address, insecure, wait, allow_partial)
        return
    from jobs.stored_runs.open import continue_run

    config, folder = continue_run(name, words or [])
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = LOG_WIDTH
    _do(config, folder, console, allow_partial, json_log)


@app.command()
def submit(
    words: Words = None,
    name: Annotated[str | None, typer.Option(help="Of the run; as name=... in the config.")] = None,
    address: remote.Address = None,
    insecure: remote.Insecure = False,
    wait: remote.Wait = False,
    allow_partial: AllowPartial = False,
) -> None:
    """Do the main job on a cluster; the code and the resolved config are shipped, secrets are not."""
    path, overrides = _split_words(words)
    from jobs.settings import load_run_config

    config = load_run_config(path, [*overrides, *([f"name='{name}'"] if name else [])])
    remote.submit(config, path.stem, address, insecure, wait, allow_partial)


def _do(
    config: "RunConfig",
    folder: "RunFolder",
    console: "Console",
    allow_partial: bool,
    json_log: bool,
) -> None:
    from jobs.cli.tables import result_table
    from jobs.progress import interrupt
    from jobs.run.flow import run as run_job

    interrupt.install()
    try:
        report = run_job(config, folder, console, allow_partial, json_log)
    except KeyboardInterrupt:
        typer.echo("stopped; the same command continues where this one was", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    console.print(result_table(report))
    console.print(f"report: {folder.report_html}", soft_wrap=True, highlight=False)


@app.command()
def validate(words: Words = None) -> None:
    """Check a config without computing anything, and print its identity."""
    path, overrides = _split_words(words)
    from jobs.settings import load_run_config

    config = load_run_config(path, overrides)
    typer.echo(f"{path} is valid: {len(config.members)} members, identity {config.identity[:16]}")


@app.command()
def schema() -> None:
    """Print the JSON schema of a config."""
    import json

    from jobs.settings import RunConfig

    typer.echo(json.dumps(RunConfig.model_json_schema(), indent=2))
