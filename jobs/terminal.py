"""What reaches the terminal: text whose control characters are shown instead of obeyed."""

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO

import typer

# Whose log lines are ours; those of torch, Ray and others stay at warnings.
_PACKAGES = ("ensemble", "cluster", "jobs")

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


class _LastOutput(StringIO):
    """Holds back what is printed: the last output alone is passed on, at the end."""

    def __init__(self) -> None:
        super().__init__()
        self._last = ""

    def write(self, text: str) -> int:
        self.seek(0)
        count = super().write(text)  # refuses bytes, as a stream of text must
        if text.strip():
            self._last = text
        return count

    def release(self) -> None:
        sys.stdout.write(self._last)


_is_quiet = False


def is_quiet() -> bool:
    """Whether only errors and the last line are to be printed."""
    return _is_quiet


@contextmanager
def verbosity(quiet: bool, verbose: bool) -> Iterator[None]:
    """Print less or more while a verb runs.

    Args:
        quiet: Print errors and the last line, or the document of `--json`; neither progress nor warnings.
        verbose: Also print what the library logs, as each request that is tried again.
    """
    global _is_quiet
    _set_level(logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING)
    if not quiet:
        yield
        return
    _is_quiet, last = True, _LastOutput()
    try:
        with redirect_stdout(last):
            yield
    except typer.Exit:
        last.release()
        raise
    finally:
        _is_quiet = False
    last.release()


def _set_level(level: int) -> None:
    for name in _PACKAGES:
        logging.getLogger(name).setLevel(level)
    if level > logging.WARNING:
        logging.getLogger().setLevel(level)


def install() -> None:
    """Let warnings be one line each, and let no text fail because the terminal cannot show it."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
