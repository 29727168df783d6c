"""`ensemble benchmark`: its verbs. Imports nothing slow before one of them runs."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.app import EXIT_FAILED, open_console

if TYPE_CHECKING:
    from jobs.benchmark.report import BenchmarkReport

benchmark = typer.Typer(
    no_args_is_help=True,
    help="Measure one part against its bars: the last line says met or not met, and the exit code is 1 "
    "if not met.",
)

Full = Annotated[
    bool,
    typer.Option(
        "--full",
        help="Measure at full size, which may take a quarter of an hour; the default ends within three "
        "minutes on two cores.",
    ),
]


@benchmark.command("search")
def benchmark_search(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key=value]...", help="Settings, such as images=5000 repeats=3 out=bench.json."
        ),
    ] = None,
    full: Full = False,
) -> None:
    """Time the outranking table and the searches against brute force, in one process."""
    from jobs.benchmark.search import benchmark_search as benchmark_job

    _run(benchmark_job, words, full)


@benchmark.command("pools")
def benchmark_pools(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key=value]...",
            help="""Settings, such as 'runs=["runs/a", "runs/b"]' or predictions=lists.npz, and k=5.""",
        ),
    ] = None,
    full: Full = False,
) -> None:
    """Fit every search on means of probabilities and of logarithms, and judge it on other images."""
    from jobs.benchmark.pools import benchmark_pools as benchmark_job

    _run(benchmark_job, words, full)


@benchmark.command("cascade")
def benchmark_cascade(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key=value]...", help="Settings, such as predictions=lists.npz and lose=0.1."
        ),
    ] = None,
    full: Full = False,
) -> None:
    """Fit cascades on one half of the images, and judge what they save and lose on the other."""
    from jobs.benchmark.cascade import benchmark_cascade as benchmark_job

    _run(benchmark_job, words, full)


@benchmark.command("sets")
def benchmark_sets(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key=value]...",
            help="Settings, such as predictions=lists.npz and coverage=0.95.",
        ),
    ] = None,
    full: Full = False,
) -> None:
    """Fit conformal sets on one half of the images, and count on the other how often they hold the label."""
    from jobs.benchmark.sets import benchmark_sets as benchmark_job

    _run(benchmark_job, words, full)


@benchmark.command("bulk")
def benchmark_bulk(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key=value]...", help="Settings, such as seconds=60 listed=1000000."
        ),
    ] = None,
    full: Full = False,
) -> None:
    """Time `ensemble predict` against the bare predictor, and watch the memory of its driver."""
    from jobs.benchmark.bulk import benchmark_bulk as benchmark_job

    _run(benchmark_job, words, full)


@benchmark.command("schedule")
def benchmark_schedule(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key=value]...",
            help="Settings, such as hosts=4 num_clusters=8 out=bench.json.",
        ),
    ] = None,
    full: Full = False,
) -> None:
    """Time fine-tunes beside the search against one after the other, on an embedded Ray."""
    from jobs.benchmark.schedule import benchmark_schedule as benchmark_job

    _run(benchmark_job, words, full)


@benchmark.command("table")
def benchmark_table(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key=value]...",
            help="Settings, such as images=4096 place=s3://bucket/prefix.",
        ),
    ] = None,
    full: Full = False,
) -> None:
    """Time commits and reads of a table against np.save and np.load of the same bytes."""
    from jobs.benchmark.table import benchmark_table as benchmark_job

    _run(benchmark_job, words, full)


@benchmark.command("scaling")
def benchmark_scaling(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key=value]...",
            help="Settings, such as images=500 hosts=[1,2] baseline=false.",
        ),
    ] = None,
    full: Full = False,
) -> None:
    """Time plans on a virtual clock and on this machine, and the whole system against Ray Data."""
    from jobs.benchmark.scaling import benchmark_scaling as benchmark_job

    _run(benchmark_job, words, full)


@benchmark.command("serve")
def benchmark_serve(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key=value]...", help="Settings, such as artifact=runs/tonight concurrency=64."
        ),
    ] = None,
    full: Full = False,
) -> None:
    """Time requests over HTTP, with and without batches, against the bare predictor."""
    from jobs.benchmark.serve import benchmark_serve as benchmark_job

    _run(benchmark_job, words, full)


@benchmark.command("views")
def benchmark_views(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key=value]...", help="Settings, such as short_side=384 repeats=3 threads=2."
        ),
    ] = None,
    full: Full = False,
) -> None:
    """Time dense evaluation against explicit crops at the same positions, and against ten_crop."""
    from jobs.benchmark.views import benchmark_views as benchmark_job

    _run(benchmark_job, words, full)


@benchmark.command("predict")
def benchmark_predict(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key=value]...", help="Settings, such as architecture=resnet14_small shards=5."
        ),
    ] = None,
    full: Full = False,
) -> None:
    """Time a member in the running system against its bare network, and count what is decoded."""
    from jobs.benchmark.predict import benchmark_predict as benchmark_job

    _run(benchmark_job, words, full)


@benchmark.command("train")
def benchmark_train(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key=value]...",
            help="Settings, such as photographs=1000 photograph_sizes=[224].",
        ),
    ] = None,
    full: Full = False,
) -> None:
    """Time the training loop against a plain loop, and an epoch over photographs against decoding alone."""
    from jobs.benchmark.train import benchmark_train as benchmark_job

    _run(benchmark_job, words, full)


@benchmark.command("gpu")
def benchmark_gpu(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key=value]...",
            help="Settings, such as repeats=5 out=gpu.json.",
        ),
    ] = None,
    smoke: Annotated[
        bool,
        typer.Option(
            "--smoke",
            help="Run the same code on a CPU with tiny networks, in a minute: answers are judged, and "
            "times are not.",
        ),
    ] = False,
) -> None:
    """Prove the main path on one GPU in nine minutes: answers, speed, memory, training; needs no Ray."""
    from jobs.benchmark.gpu.flow import benchmark_gpu as benchmark_job

    if not benchmark_job(words or [], open_console(), is_smoke=smoke).is_met:
        raise typer.Exit(EXIT_FAILED)


def _run(
    benchmark_job: Callable[..., "BenchmarkReport"], words: list[str] | None, full: bool
) -> None:
    if not benchmark_job(words or [], open_console(), is_full=full).is_met:
        raise typer.Exit(EXIT_FAILED)
