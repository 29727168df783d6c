"""What reaches the terminal: text whose control characters are shown instead of obeyed."""

import logging
import re
import sys

import typer

# A terminal obeys the control characters of ASCII and their twins from U+0080 on: a name that holds them
# could rewrite the screen. The others change the order of what is read, or are no characters at all, as
# the bytes of a name of a file that are not UTF-8.
_CONTROL = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]"
)


def printable(text: str) -> str:
    """Show control characters, marks of direction and what is no character as their numbers; keep the lines."""
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def echo(text: str = "", err: bool = False) -> None:
    """Print a line, whatever names it holds.

    Args:
        text: The line, without styles.
        err: Print it on stderr.
    """
    typer.echo(printable(text), err=err)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def install() -> None:
    """Let warnings be one line each, and let no text fail because the terminal cannot show it."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
