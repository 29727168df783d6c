"""The verbs of `ensemble benchmark`, one for each part that is measured."""

from typing import Annotated

import typer

from jobs.cli.app import open_console

benchmark = typer.Typer(
    no_args_is_help=True,
    help="Measure the speed and quality of one part of the system on this machine.",
)


@benchmark.command("search")
def benchmark_search(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key=value]...",
            help="Settings to change, such as images=5000, repeats=3, out=bench.json.",
        ),
    ] = None,
) -> None:
    """Time the outranking table and the searches against brute force, in one process."""
    from jobs.benchmark.search import benchmark_search as benchmark_job

    benchmark_job(words or [], open_console())


@benchmark.command("schedule")
def benchmark_schedule(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key=value]...",
            help="Settings to change, such as hosts=4, num_clusters=8, out=bench.json.",
        ),
    ] = None,
) -> None:
    """Time fine-tunes beside the search against one after the other, on an embedded Ray."""
    from jobs.benchmark.schedule import benchmark_schedule as benchmark_job

    benchmark_job(words or [], open_console())


@benchmark.command("table")
def benchmark_table(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key=value]...",
            help="Settings to change, such as images=4096, place=s3://bucket/prefix.",
        ),
    ] = None,
) -> None:
    """Time commits and reads of a table against np.save and np.load of the same bytes."""
    from jobs.benchmark.table import benchmark_table as benchmark_job

    benchmark_job(words or [], open_console())


@benchmark.command("scaling")
def benchmark_scaling(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key=value]...",
            help="Settings to change, such as images=500, hosts=[1,2], rival=false.",
        ),
    ] = None,
) -> None:
    """Time plans against a virtual clock and this machine, and the whole against Ray Data."""
    from jobs.benchmark.scaling import benchmark_scaling as benchmark_job

    benchmark_job(words or [], open_console())


@benchmark.command("views")
def benchmark_views(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key=value]...",
            help="Settings to change, such as short_side=384, repeats=3, threads=2.",
        ),
    ] = None,
) -> None:
    """Time dense evaluation against explicit crops at the same positions, and against ten_crop."""
    from jobs.benchmark.views import benchmark_views as benchmark_job

    benchmark_job(words or [], open_console())


@benchmark.command("predict")
def benchmark_predict(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key=value]...",
            help="Settings to change, such as architecture=resnet14_small, shards=5.",
        ),
    ] = None,
) -> None:
    """Time a member in the running system against its bare network, and count what is decoded."""
    from jobs.benchmark.predict import benchmark_predict as benchmark_job

    benchmark_job(words or [], open_console())
