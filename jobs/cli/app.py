"""What the verbs of the `ensemble` command share: exit codes, common arguments, and the console."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

EXIT_FAILED, EXIT_USAGE, EXIT_PARTIAL, EXIT_INTERRUPTED = 1, 2, 5, 130

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


def split_config(words: list[str] | None) -> tuple[Path, list[str]]:
    """Divide the words of a command into the path of its config and the settings to change."""
    words = words or []
    if words and "=" not in words[0]:
        return Path(words[0]), words[1:]
    return DEFAULT_CONFIG, words


def open_console() -> "Console":
    """Open the console that results are printed on."""
    from jobs import console

    return console.open_console()
