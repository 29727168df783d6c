"""The `ensemble` command: its verbs by name, and its exit codes. Nothing slow is imported before parsing."""

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from ensemble.errors import ConfigError, EmptySplitError, PartialError, ProjectError
from jobs import terminal
from jobs.cli import (
    cascade,
    distil,
    evaluate,
    nightly,
    pool,
    remote,
    run,
    schedule,
    search,
    show,
    study,
    subclassifiers,
    table,
    train,
    use,
)
from jobs.cli.app import EXIT_FAILED, EXIT_PARTIAL, EXIT_USAGE, unify
from jobs.cli.benchmark import benchmark
from jobs.system_errors import translated

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"]},
    pretty_exceptions_enable=False,
)

VERBS: dict[str, dict[str, Callable[..., None]]] = {
    "Runs": {
        "run": run.run,
        "plan": run.plan,
        "resume": run.resume,
        "validate": run.validate,
        "train": train.train,
        "study": study.study,
        "schema": run.schema,
    },
    "Results": {
        "search": search.search,
        "cascade": cascade.cascade,
        "distil": distil.distil,
        "summary": search.summary,
        "evaluate": evaluate.evaluate,
        "compare": evaluate.compare,
        "show": show.show,
    },
    "Using the result": {
        "predict": use.predict,
        "serve": use.serve,
        "export": use.export,
        "verify": use.verify,
    },
    "Before a run": {"init": pool.init, "members": pool.members, "doctor": pool.doctor},
    "Every night": {"schedule": schedule.schedule},
    "On a cluster": {
        "submit": remote.submit,
        "status": remote.status,
        "logs": remote.logs,
        "stop": remote.stop,
        "list": remote.list_runs,
    },
}

GROUPS = {
    "nightly": (nightly.app, "Every night"),
    "table": (table.app, "Results"),
    "subclassifiers": (subclassifiers.app, "Results"),
    "benchmark": (benchmark, "Measurements"),
}

for panel, verbs in VERBS.items():
    for name, verb in verbs.items():
        app.command(name, rich_help_panel=panel)(verb)
for name, (group, panel) in GROUPS.items():
    app.add_typer(group, name=name, rich_help_panel=panel)
unify(app)


def _print_version(is_requested: bool) -> None:
    if is_requested:
        # Here, because nothing else that is parsed needs pydantic.
        from jobs.stored_runs.revision import describe_version

        terminal.echo(describe_version())
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version and the commit of the code, and exit.",
        ),
    ] = False,
) -> None:
    """Turn a pool of trained image classifiers into one better predictor."""


def main() -> None:
    """Run the command; a user's mistake is one message and no traceback."""
    terminal.install()
    try:
        with translated():
            app()
    except (ConfigError, EmptySplitError) as error:
        _fail(error, EXIT_USAGE)
    except PartialError as error:
        _fail(error, EXIT_PARTIAL)
    except ProjectError as error:
        _fail(error, EXIT_FAILED)


def _fail(error: ProjectError, code: int) -> None:
    terminal.echo(f"{type(error).__name__}: {error}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
