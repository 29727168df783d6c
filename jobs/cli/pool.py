"""The verbs to call before a run: init writes a config, members lists a pool, doctor examines what a run needs."""

from pathlib import Path
from typing import Annotated

import typer

from ensemble.errors import ConfigError
from jobs.cli.app import EXIT_FAILED, AsJson, open_console
from jobs.terminal import echo


def init(
    images: Annotated[
        str,
        typer.Argument(
            metavar="IMAGES",
            help="Labelled images: a folder with one sub-folder per class, a .parquet file, or the "
            "settings of a source, such as {kind: digits}.",
        ),
    ],
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[WEIGHTS]...",
            help="Files of weights (.pth, .safetensors, .onnx) whose architecture is recognised, or "
            "published ones such as torchvision:resnet50. Without any, small networks are trained.",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The YAML file to write.")
    ] = Path("ensemble.yaml"),
) -> None:
    """Look at labelled images and files of weights, and write a config that runs."""
    from jobs.init import write_config

    echo(write_config(images, files or [], out))


def doctor(
    place: Annotated[
        str | None,
        typer.Argument(
            metavar="[PLACE|POOL]",
            help="The folder or s3://bucket/prefix to examine; with --images the name of a pool, or "
            "the path of a YAML file with one.",
        ),
    ] = None,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key=value]...",
            help="For a place, settings of storage such as endpoint=http://host:9000; for a pool, "
            "settings of the check such as probe=500 (images) or seed=1.",
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            metavar="IMAGES",
            help="Labelled images to hold the members of a pool to their published errors: a folder "
            "with one sub-folder per class, a .parquet file, or the settings of a source, such as {kind: digits}.",
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Examine the head of a cluster instead: the URL of its dashboard, such as "
            "http://127.0.0.1:8265.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Examine, before a run, a store for tables, the members of a pool, or the head of a cluster.

    Ends with exit code 1 if the store, a member or the head is not fit.
    """
    from jobs.progress.live import working

    if (place is None) == (address is None):
        raise ConfigError(
            "nothing to examine, or two things. Expected either a place or pool, as in `ensemble "
            "doctor runs`, or --address URL."
        )
    if place is not None and images is not None:
        from jobs import preflight

        if not preflight.preflight(place, images, words or [], open_console(), as_json):
            raise typer.Exit(EXIT_FAILED)
        return
    from jobs import doctor as job

    with working("doctor", f"examine {place or address}"):
        findings = job.examine(place, words or []) if place else job.examine_head(address)
    if as_json:
        echo(job.as_json(findings))
    else:
        job.show(findings, open_console())
    if not findings["is_fit"]:
        raise typer.Exit(EXIT_FAILED)


def members(
    pool: Annotated[
        str,
        typer.Argument(
            metavar="POOL",
            help="The name of a pool, such as imagenet13-public, or the path of a YAML file with one.",
        ),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key=value]...",
            help="Where weights are looked for, such as weights.mirror=/data/weights.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the members of a pool: size, cost, input, views, published errors, and whether weights are here."""
    from jobs import members as job
    from jobs.progress.live import working

    with working("members", f"describe the members of {pool}"):
        cards = job.describe_pool(pool, words or [])
    if as_json:
        echo(job.as_json(cards))
    else:
        job.show(cards, open_console())
