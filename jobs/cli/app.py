"""jobs / cli / app: say here what this file is responsible for."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    pass


# A log has no width; the result table wants this much.
LOG_WIDTH = 120


EXIT_FAILED, EXIT_USAGE, EXIT_PARTIAL, EXIT_INTERRUPTED = 1, 2, 5, 130


CONFIGS = Path(__file__).parents[1] / "configs"


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


def _split_words(words: list[str] | None) -> tuple[Path, list[str]]:
    words = words or []
    if words and "=" not in words[0]:
        return Path(words[0]), words[1:]
    return DEFAULT_CONFIG, words
