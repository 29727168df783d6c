"""The `ensemble` command. Parses and prints; torch and ray are imported by the jobs, after parsing."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ensemble.errors import ConfigError, EmptySplitError, ProjectError
from jobs import subclassifiers, table

if TYPE_CHECKING:
    from rich.console import Console

    from jobs.run_folder import RunFolder
    from jobs.settings import RunConfig

# A log has no width; the result table wants this much.
LOG_WIDTH = 120

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

CONFIGS = Path(__file__).parent / "configs"
DEFAULT_CONFIG = CONFIGS / "digits.yaml"

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Turn a pool of trained image classifiers into one better predictor.",
)

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[CONFIG] [a.b=value]...",
        help="A YAML file (the built-in digits run if there is none), then settings to change.",
    ),
]


@app.command()
def run(words: Words = None) -> None:
    """Do the main job: train or load the pool, predict, search, fine-tune, evaluate, report."""
    path, overrides = _split_words(words)
    from jobs.settings import load_run_config

    config = load_run_config(path, overrides)
    from rich.console import Console

    from jobs.run_folder import open_run_folder

    folder = open_run_folder(config, path.stem)
    console = Console()
    if not console.is_terminal:
        console.width = LOG_WIDTH
    _do(config, folder, console)


@app.command()
def resume(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run that was begun.")],
) -> None:
    """Go on with a run where it stopped, with the settings it was begun with."""
    from jobs.run_folder import RunFolder, read_run_config

    run_folder = RunFolder(folder)
    config = read_run_config(run_folder)
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = LOG_WIDTH
    _do(config, run_folder, console)


def _do(config: "RunConfig", folder: "RunFolder", console: "Console") -> None:
    from jobs import interrupt
    from jobs.result_table import result_table
    from jobs.run import run as run_job

    interrupt.install()
    try:
        report = run_job(config, folder, console)
    except KeyboardInterrupt:
        typer.echo("stopped; the same command continues where this one was", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    console.print(result_table(report))
    console.print(f"report: {folder.report_html}", soft_wrap=True, highlight=False)


@app.command()
def validate(words: Words = None) -> None:
    """Check a config without computing anything, and print its identity."""
    path, overrides = _split_words(words)
    from jobs.settings import load_run_config

    config = load_run_config(path, overrides)
    typer.echo(f"{path} is valid: {len(config.members)} members, identity {config.identity[:16]}")


@app.command()
def schema() -> None:
    """Print the JSON schema of a config."""
    import json

    from jobs.settings import RunConfig

    typer.echo(json.dumps(RunConfig.model_json_schema(), indent=2))


@app.command()
def search(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[a.b=value]...", help="As search.kind=line, k=5, max_cost=0.02."),
    ] = None,
) -> None:
    """Search weights on the table of a finished run: no model, no Ray, in seconds."""
    from rich.console import Console

    from jobs.search import search as search_job
    from jobs.search_table import search_table

    report, page = search_job(folder, words or [])
    console = Console()
    if not console.is_terminal:
        console.width = LOG_WIDTH
    console.print(search_table(report))
    for warning in report.warnings:
        console.print(f"note: {warning}", soft_wrap=True, highlight=False, markup=False)
    console.print(f"report: {page}", soft_wrap=True, highlight=False)


app.add_typer(table.app, name="table")
app.add_typer(subclassifiers.app, name="subclassifiers")

benchmark = typer.Typer(no_args_is_help=True, help="Measure speed and quality of one part.")
app.add_typer(benchmark, name="benchmark")


@benchmark.command("search")
def benchmark_search(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[key=value]...", help="As images=5000, repeats=3, out=bench.json."),
    ] = None,
) -> None:
    """Time the outranking table and the searches against brute force, in one process."""
    from rich.console import Console

    from jobs.benchmark.search import benchmark_search as benchmark_job

    benchmark_job(words or [], Console())


@benchmark.command("schedule")
def benchmark_schedule(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key=value]...", help="As hosts=4, num_clusters=8, out=bench.json."
        ),
    ] = None,
) -> None:
    """Time fine-tunes beside the search against one after the other, on an embedded Ray."""
    from rich.console import Console

    from jobs.benchmark.schedule import benchmark_schedule as benchmark_job

    benchmark_job(words or [], Console())


@benchmark.command("table")
def benchmark_table(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[key=value]...", help="As images=4096, place=s3://bucket/prefix."),
    ] = None,
) -> None:
    """Time commits and reads of a table against np.save and np.load of the same bytes."""
    from rich.console import Console

    from jobs.benchmark.table import benchmark_table as benchmark_job

    benchmark_job(words or [], Console())


@app.command()
def doctor(
    place: Annotated[
        str,
        typer.Argument(
            metavar="PLACE|POOL", help="A folder or s3://bucket/prefix; with --images a pool."
        ),
    ],
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
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Try, before a run, whether a place can keep tables, or whether members are what they should be."""
    from rich.console import Console

    if images is not None:
        from jobs import preflight

        if not preflight.preflight(place, images, words or [], Console(), as_json):
            raise typer.Exit(EXIT_FAILED)
        return
    from jobs import doctor as job

    found = job.examine(place, words or [])
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


@app.command()
def summary(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of finished runs that differ by seed.")
    ],
) -> None:
    """Print mean ± sd over runs of one config as a Markdown table."""
    from jobs.summary import summarise

    typer.echo(summarise(runs))


def _split_words(words: list[str] | None) -> tuple[Path, list[str]]:
    words = words or []
    if words and "=" not in words[0]:
        return Path(words[0]), words[1:]
    return DEFAULT_CONFIG, words


def main() -> None:
    """Run the command; a user's mistake is one message and no traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        app()
    except (ConfigError, EmptySplitError) as error:
        _fail(error, EXIT_USAGE)
    except ProjectError as error:
        _fail(error, EXIT_FAILED)


def _fail(error: ProjectError, code: int) -> None:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
