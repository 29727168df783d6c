"""What the verbs of the `ensemble` command share: exit codes, common arguments, and the console."""

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from ensemble.errors import ConfigError
from jobs import terminal

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

EXIT_FAILED, EXIT_USAGE, EXIT_REGRESSION, EXIT_NOT_COMPARABLE = 1, 2, 3, 4
EXIT_PARTIAL, EXIT_INTERRUPTED = 5, 130

CONFIGS = Path(__file__).parents[1] / "configs"

DEFAULT_CONFIG = CONFIGS / "digits.yaml"

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[CONFIG] [a.b=value]...",
        help="A YAML file with the settings of a run (the built-in digits run if it is left out), "
        "then settings to change, such as seed=1 or search.k=5.",
    ),
]

FinishedRun = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="The folder of a finished run, or its s3://bucket/prefix/RUN."
    ),
]

StorageWords = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[storage.key=value]...",
        help="How S3 is reached, such as storage.endpoint=http://host:9000.",
    ),
]

AllowPartial = Annotated[
    bool,
    typer.Option(
        "--allow-partial",
        help="Leave out the images whose prediction killed its worker three times, and finish the "
        "run without them. Without this option such a run ends with exit code 5.",
    ),
]

JsonLog = Annotated[
    bool,
    typer.Option(
        "--json-log",
        help="Print progress as one JSON record every 5 seconds, as the log of a submitted run has it.",
    ),
]

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document, for programs, instead of text.")
]

AsReport = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print the report as one JSON document, for programs, and nothing else on stdout; "
        "progress goes to stderr.",
    ),
]


Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", help="Print only errors and the last line, or with --json the document."
    ),
]

Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Also print what the library logs, such as each request that is tried again.",
    ),
]


def unify(app: typer.Typer) -> None:
    """Let every verb of an app, and of the apps in it, take `--quiet` and `--verbose`."""
    for command in app.registered_commands:
        if command.callback is not None:
            command.callback = _with_verbosity(command.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            unify(group.typer_instance)


def _with_verbosity(verb: Callable[..., None]) -> Callable[..., None]:
    @wraps(verb)
    def call(*, quiet: bool, verbose: bool, **settings: Any) -> None:
        if quiet and verbose:
            raise ConfigError("--quiet and --verbose are opposites. Expected one of them.")
        with terminal.verbosity(quiet, verbose):
            verb(**settings)

    common = (("quiet", Quiet), ("verbose", Verbose))
    signature = inspect.signature(verb, eval_str=True)
    call.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[
            *signature.parameters.values(),
            *(
                inspect.Parameter(
                    name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind
                )
                for name, kind in common
            ),
        ]
    )
    call.__annotations__ = {**get_type_hints(verb, include_extras=True), **dict(common)}
    return call


def split_config(words: list[str] | None) -> tuple[Path, list[str]]:
    """Divide the words of a command into the path of its config and the settings to change."""
    words = words or []
    if words and "=" not in words[0]:
        return Path(words[0]), words[1:]
    return DEFAULT_CONFIG, words


def open_console(stderr: bool = False) -> "Console":
    """Open the console that results are printed on, or the one for progress beside a document on stdout."""
    from jobs import console

    return console.open_console(stderr)


def print_results(table: "RenderableType", lines: Iterable[str], page: Path | str) -> None:
    """Print a table of results, what to make of it, and where the report is."""
    console = open_console()
    console.print(table)
    for line in (*lines, f"report: {page}"):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
