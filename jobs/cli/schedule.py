"""The verb that writes the file of a scheduler."""

from pathlib import Path
from typing import Annotated

import typer

from jobs.schedule.targets import Scheduler
from jobs.terminal import echo


def schedule(
    suite: Annotated[Path, typer.Argument(metavar="SUITE", help="The YAML file of a suite.")],
    cron: Annotated[
        str,
        typer.Option(
            metavar="FIELDS", help="When a night starts, in the five fields of cron: '0 2 * * *'."
        ),
    ],
    scheduler: Annotated[
        Scheduler, typer.Option("--to", help="The scheduler that starts the nights.")
    ],
    timezone: Annotated[
        str, typer.Option(metavar="ZONE", help="The time zone of --cron, such as Asia/Seoul.")
    ] = "UTC",
    address: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The URL of the dashboard of the cluster that the nights run on; without it they run "
            "where they are started.",
        ),
    ] = None,
    timeout: Annotated[
        int, typer.Option(metavar="HOURS", min=1, help="Hours after which a night is ended.")
    ] = 4,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="A folder to write the files to, instead of printing them."
        ),
    ] = None,
) -> None:
    """Print a ready file that starts `ensemble nightly` at its time, for a scheduler of your choice."""
    from jobs.schedule.schedule import clock_changes, plan_nights, write
    from jobs.schedule.schedule import schedule as write_schedule

    nights = plan_nights(suite, cron, timezone, address, timeout)
    files = write_schedule(nights, scheduler)
    if warning := clock_changes(nights):
        echo(f"note: {warning}", err=True)
    if out is not None:
        for path in write(files, out):
            echo(f"wrote {path}")
        return
    names = [f"# {file.name}\n" if len(files) > 1 else "" for file in files]
    echo("\n".join(name + file.text for name, file in zip(names, files, strict=True)).rstrip())
