"""The `ensemble` command. Parses and prints; torch and ray are imported by the jobs, after parsing."""

import logging
import sys
from typing import TYPE_CHECKING

from ensemble.errors import ConfigError, EmptySplitError, PartialError, ProjectError
from jobs.cli import pool, remote, run, search, subclassifiers, table  # noqa: F401 - pool, run and search register their verbs
from jobs.cli.benchmark import benchmark

if TYPE_CHECKING:
    pass
from jobs.cli.app import EXIT_FAILED, EXIT_PARTIAL, EXIT_USAGE, app

for verb in (remote.status, remote.logs, remote.stop):
    app.command()(verb)


app.command("list")(remote.list_runs)


app.add_typer(table.app, name="table")


app.add_typer(subclassifiers.app, name="subclassifiers")


app.add_typer(benchmark, name="benchmark")


def main() -> None:
    """Run the command; a user's mistake is one message and no traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        app()
    except (ConfigError, EmptySplitError) as error:
        _fail(error, EXIT_USAGE)
    except PartialError as error:
        _fail(error, EXIT_PARTIAL)
    except ProjectError as error:
        _fail(error, EXIT_FAILED)


def _fail(error: ProjectError, code: int) -> None:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
