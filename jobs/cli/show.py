"""The verb `show`: a member of a finished run as a page."""

from pathlib import Path
from typing import Annotated

import typer

from jobs.cli.app import FinishedRun, StorageWords
from jobs.terminal import echo


def show(
    place: FinishedRun,
    member: Annotated[str, typer.Argument(metavar="MEMBER", help="Name of a member of the run.")],
    words: StorageWords = None,
    images: Annotated[
        int, typer.Option(min=1, max=200, help="Number of test images that are shown.")
    ] = 12,
    candidates: Annotated[
        int,
        typer.Option(
            "--searched",
            min=1,
            help="Number of training images, at most, that the nearest ones are looked for among.",
        ),
    ] = 2000,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The page; show-RUN-MEMBER.html in the working folder if left out."
        ),
    ] = None,
) -> None:
    """Show what a member has learnt: first-layer filters, answers, and the nearest training images, as a page."""
    from jobs.progress.live import working
    from jobs.show import show as show_job

    with working("show", f"look at {member}"):
        path = show_job(place, member, words or [], images, candidates, out)
    echo(f"page: {path}")
