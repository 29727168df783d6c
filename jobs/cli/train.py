"""The verb `train`: members of a config, without predictions and without Ray."""

from typing import Annotated

import typer

from jobs.cli.app import Words, open_console, split_config
from jobs.terminal import echo


def train(
    words: Words = None,
    members: Annotated[
        list[str] | None,
        typer.Option(
            "--member",
            metavar="NAME",
            help="A member to train, with the one that it starts from; may be given several times. All "
            "members with a recipe if left out.",
        ),
    ] = None,
) -> None:
    """Train members of a config here, one after the other, and print the files of their weights.

    A run of the same config finds them trained. A training that was interrupted goes on.
    """
    from jobs import train as job
    from jobs.settings import load_run_config

    path, overrides = split_config(words)
    config = load_run_config(path, overrides)
    for done in job.train(config, members or [], open_console(stderr=True)):
        echo(f"{done.name}: {done.path}{' (was trained already)' if done.was_kept else ''}")
