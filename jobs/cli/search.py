"""jobs / cli / search: say here what this file is responsible for."""

from typing import TYPE_CHECKING, Annotated

import typer

from ensemble.errors import ConfigError

if TYPE_CHECKING:
    pass
from jobs.cli.app import LOG_WIDTH, app


@app.command()
def search(
    place: Annotated[
        str, typer.Argument(metavar="RUN", help="Folder of a finished run, or s3://….")
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[a.b=value]...", help="As search.kind=line, k=5, max_cost=0.02."),
    ] = None,
) -> None:
    """Search weights on the table of a finished run: no model, no Ray, in seconds."""
    from rich.console import Console

    from jobs.cli.tables import search_table
    from jobs.search import search as search_job

    report, page = search_job(place, words or [])
    console = Console()
    if not console.is_terminal:
        console.width = LOG_WIDTH
    console.print(search_table(report))
    for warning in report.warnings:
        console.print(f"note: {warning}", soft_wrap=True, highlight=False, markup=False)
    console.print(f"report: {page}", soft_wrap=True, highlight=False)


@app.command()
def summary(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN... [storage.key=value]...",
            help="Folders or s3://… of finished runs that differ by seed.",
        ),
    ],
) -> None:
    """Print mean ± sd over runs of one config as a Markdown table."""
    from jobs.stored_runs.open import split_words, storage_config
    from jobs.summary import summarise

    storage, runs = split_words(words)
    if not runs:
        raise ConfigError("no run is named; expected the folders of finished runs.")
    typer.echo(summarise(runs, storage_config(storage)))
