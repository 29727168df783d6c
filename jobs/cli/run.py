"""The verbs that make a run or look at its config: run, plan, resume, validate, schema."""

from typing import TYPE_CHECKING, Annotated

import typer

from ensemble.errors import ConfigError
from jobs.cli import remote
from jobs.cli.app import (
    EXIT_INTERRUPTED,
    AllowPartial,
    AsJson,
    AsReport,
    JsonLog,
    Words,
    open_console,
    print_results,
    split_config,
)
from jobs.terminal import echo

if TYPE_CHECKING:
    from jobs.run.job import RunOptions
    from jobs.settings import RunConfig
    from jobs.stored_runs.layout import RunFolder


def run(
    words: Words = None,
    allow_partial: AllowPartial = False,
    json_log: JsonLog = False,
    as_json: AsReport = False,
) -> None:
    """Do the main job: train or load the members, predict, search weights, fine-tune, judge, report.

    What an earlier attempt of the same run has computed is used again.
    """
    from jobs.run.job import RunOptions
    from jobs.settings import load_run_config
    from jobs.stored_runs.layout import open_run_folder

    path, overrides = split_config(words)
    config = load_run_config(path, overrides)
    folder = open_run_folder(config, path.stem)
    run_here(config, folder, RunOptions(allow_partial, json_log), as_json)


def plan(
    words: Words = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="A cluster whose machines to plan for: its dashboard, as http://127.0.0.1:8265, or "
            "its head, as 10.0.0.1:6379; RAY_ADDRESS if not set.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Estimate what a run would take: hosts, GPUs, seconds, GPU-hours. Computes no prediction."""
    from jobs.plan import estimate
    from jobs.progress.live import working
    from jobs.settings import load_run_config
    from jobs.stored_runs.layout import run_name

    path, overrides = split_config(words)
    config = load_run_config(path, overrides)
    with working("plan", "list images and place members"):
        document = estimate.plan(config, address, config.runs / run_name(config, path.stem))
    if as_json:
        echo(document.model_dump_json(indent=2))
    else:
        estimate.show(document, open_console())


def resume(
    name: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="The folder of a run that was begun, or its s3://bucket/prefix/RUN; with --address "
            "the name of a submitted run.",
        ),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[storage.key=value]...",
            help="How S3 is reached, as storage.endpoint=http://host:9000; for a run at s3:// also "
            "runs=PATH, the local folder to make the run's folder in.",
        ),
    ] = None,
    address: remote.Address = None,
    insecure: remote.Insecure = False,
    wait: remote.Wait = False,
    allow_partial: AllowPartial = False,
    json_log: JsonLog = False,
    as_json: AsReport = False,
) -> None:
    """Go on with a run where it stopped, with the settings it was begun with."""
    if not remote.is_local(name, address):
        if words:
            raise ConfigError(
                f"cannot apply {words[0]!r}: a submitted run goes on with the settings it was begun "
                f"with. Expected `ensemble resume {name}` alone."
            )
        if as_json:
            raise ConfigError(
                f"--json: the report of a submitted run lies on its cluster. Expected `ensemble resume "
                f"{name} --wait`, and `ensemble status {name} --json` for its progress."
            )
        remote.resume_submitted(name, address, insecure, wait, allow_partial)
        return
    from jobs.run.job import RunOptions
    from jobs.stored_runs.open import continue_run

    config, folder = continue_run(name, words or [])
    run_here(config, folder, RunOptions(allow_partial, json_log), as_json)


def validate(words: Words = None) -> None:
    """Check a config as a run would, without computing anything, and print the identity of its results.

    Images are listed and weights that are here are read; nothing is decoded, fetched or written.
    """
    from jobs import checks
    from jobs.progress.live import working
    from jobs.settings import load_run_config

    path, overrides = split_config(words)
    config = load_run_config(path, overrides)
    with working("validate", "list images and read weights"):
        notes = checks.validate(config)
    for note in notes:
        echo(f"note: {note}")
    echo(f"{path} is valid: {len(config.members)} members, identity {config.identity[:16]}")


def schema() -> None:
    """Print the JSON schema of a config: every setting, its type, default and meaning."""
    import json

    from jobs.settings import RunConfig

    echo(json.dumps(RunConfig.model_json_schema(), indent=2))


def run_here(
    config: "RunConfig", folder: "RunFolder", options: "RunOptions", as_json: bool
) -> None:
    """Do a run on this machine or the cluster it is connected to, and print its results."""
    from ensemble.report.pages.advice import run_advice
    from jobs.cli.tables import result_table
    from jobs.progress import interrupt
    from jobs.run.flow import run as run_job

    interrupt.install()
    try:
        report = run_job(config, folder, open_console(stderr=as_json), options)
    except KeyboardInterrupt:
        echo("stopped; the same command continues where this one was", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if as_json:
        echo(report.model_dump_json(indent=2))
        return
    notes = (f"note: {warning}" for warning in report.search.warnings)
    print_results(result_table(report), (*run_advice(report), *notes), folder.report_html)
