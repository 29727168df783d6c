"""The `ensemble` command. Parses and prints; torch and ray are imported by the jobs, after parsing."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ensemble.errors import ConfigError, EmptySplitError, PartialError, ProjectError
from jobs import remote, subclassifiers, table
from jobs.benchmark.verbs import benchmark

if TYPE_CHECKING:
    from rich.console import Console

    from jobs.run_folder import RunFolder
    from jobs.settings import RunConfig

# A log has no width; the result table wants this much.
LOG_WIDTH = 120

EXIT_FAILED, EXIT_USAGE, EXIT_PARTIAL, EXIT_INTERRUPTED = 1, 2, 5, 130

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


AllowPartial = Annotated[
    bool,
    typer.Option(
        "--allow-partial", help="Leave out images that kill their worker, instead of exit code 5."
    ),
]


JsonLog = Annotated[
    bool,
    typer.Option(
        "--json-log", help="Progress as a line of JSON every 5 s, as submitted runs log it."
    ),
]


@app.command()
def run(
    words: Words = None, allow_partial: AllowPartial = False, json_log: JsonLog = False
) -> None:
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
    _do(config, folder, console, allow_partial, json_log)


@app.command()
def plan(
    words: Words = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="A cluster: its dashboard, as http://127.0.0.1:8265, or 10.0.0.1:6379; "
            "RAY_ADDRESS if not set."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show what a run would take: members on hosts and GPUs, seconds, GPU-hours. Computes nothing."""
    path, overrides = _split_words(words)
    from jobs.settings import load_run_config

    config = load_run_config(path, overrides)
    from rich.console import Console

    from jobs import plan as job

    found = job.plan(config, address)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
        return
    console = Console()
    if not console.is_terminal:
        console.width = LOG_WIDTH
    job.show(found, console)


@app.command()
def resume(
    name: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="Folder of a run that was begun, or s3://…; with --address a submitted run's name.",
        ),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[storage.key=value]...",
            help="How S3 is reached; for a run at s3:// also runs=PATH, where its folder here goes.",
        ),
    ] = None,
    address: remote.Address = None,
    insecure: remote.Insecure = False,
    wait: remote.Wait = False,
    allow_partial: AllowPartial = False,
    json_log: JsonLog = False,
) -> None:
    """Go on with a run where it stopped, with the settings it was begun with."""
    if not remote.is_local(name, address):
        if words:
            raise ConfigError(f"{words[0]!r}: a submitted run goes on with the settings it has.")
        remote.resume(name, address, insecure, wait, allow_partial)
        return
    from jobs.stored_run import continue_run

    config, folder = continue_run(name, words or [])
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = LOG_WIDTH
    _do(config, folder, console, allow_partial, json_log)


@app.command()
def submit(
    words: Words = None,
    name: Annotated[str | None, typer.Option(help="Of the run; as name=... in the config.")] = None,
    address: remote.Address = None,
    insecure: remote.Insecure = False,
    wait: remote.Wait = False,
    allow_partial: AllowPartial = False,
) -> None:
    """Do the main job on a cluster; the code and the resolved config are shipped, secrets are not."""
    path, overrides = _split_words(words)
    from jobs.settings import load_run_config

    config = load_run_config(path, [*overrides, *([f"name='{name}'"] if name else [])])
    remote.submit(config, path.stem, address, insecure, wait, allow_partial)


for verb in (remote.status, remote.logs, remote.stop):
    app.command()(verb)
app.command("list")(remote.list_runs)


def _do(
    config: "RunConfig",
    folder: "RunFolder",
    console: "Console",
    allow_partial: bool,
    json_log: bool,
) -> None:
    from jobs import interrupt
    from jobs.result_table import result_table
    from jobs.run import run as run_job

    interrupt.install()
    try:
        report = run_job(config, folder, console, allow_partial, json_log)
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

    from jobs.search import search as search_job
    from jobs.search_table import search_table

    report, page = search_job(place, words or [])
    console = Console()
    if not console.is_terminal:
        console.width = LOG_WIDTH
    console.print(search_table(report))
    for warning in report.warnings:
        console.print(f"note: {warning}", soft_wrap=True, highlight=False, markup=False)
    console.print(f"report: {page}", soft_wrap=True, highlight=False)


app.add_typer(table.app, name="table")
app.add_typer(subclassifiers.app, name="subclassifiers")

app.add_typer(benchmark, name="benchmark")


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
    from jobs.stored_run import split_words, storage_config
    from jobs.summary import summarise

    storage, runs = split_words(words)
    if not runs:
        raise ConfigError("no run is named; expected the folders of finished runs.")
    typer.echo(summarise(runs, storage_config(storage)))


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
    except PartialError as error:
        _fail(error, EXIT_PARTIAL)
    except ProjectError as error:
        _fail(error, EXIT_FAILED)


def _fail(error: ProjectError, code: int) -> None:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
