"""jobs / cli / pool: say here what this file is responsible for."""

from typing import TYPE_CHECKING, Annotated

import typer

from ensemble.errors import ConfigError

if TYPE_CHECKING:
    pass
from jobs.cli.app import EXIT_FAILED, LOG_WIDTH, app


@app.command()
def doctor(
    place: Annotated[
        str | None,
        typer.Argument(
            metavar="[PLACE|POOL]", help="A folder or s3://bucket/prefix; with --images a pool."
        ),
    ] = None,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key=value]...",
            help="Of storage, as endpoint=http://host:9000; of a preflight, as probe=500, seed=1.",
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(help="A folder, a .parquet file, or {kind: …}: hold a pool to its figures."),
    ] = None,
    address: Annotated[
        str | None, typer.Option(metavar="URL", help="Of a cluster's head, to examine instead.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Try, before a run, whether a place can keep tables, members are what they should be, or a head is closed."""
    from rich.console import Console

    if (place is None) == (address is None):
        raise ConfigError("what shall be examined? Expected a PLACE, or --address URL.")
    if place is not None and images is not None:
        from jobs import preflight

        if not preflight.preflight(place, images, words or [], Console(), as_json):
            raise typer.Exit(EXIT_FAILED)
        return
    from jobs import doctor as job

    found = job.examine(place, words or []) if place else job.examine_head(address)
    if as_json:
        typer.echo(job.as_json(found))
    else:
        job.show(found, Console())
    if not found["is_fit"]:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def members(
    pool: Annotated[
        str, typer.Argument(metavar="POOL", help="As imagenet13-public, or a YAML file.")
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[key=value]...", help="As weights.mirror=/data/weights."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """List the members of a pool: size, cost, input, published errors, and whether weights are here."""
    from rich.console import Console

    from jobs import members as job

    cards = job.describe_pool(pool, words or [])
    if as_json:
        typer.echo(job.as_json(cards))
        return
    console = Console()
    if not console.is_terminal:
        console.width = LOG_WIDTH
    job.show(cards, console)
