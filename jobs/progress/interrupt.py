"""Ctrl-C and SIGTERM as one request to stop, which no library in between can lose."""

import signal
import threading
from types import FrameType

_requested = threading.Event()


def install() -> None:
    """Let SIGINT and SIGTERM raise KeyboardInterrupt in the main thread."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)


def check() -> None:
    """Raise again what was asked for.

    Compiled code now and then drops an exception that a signal raised inside it; asked at each
    piece of work, the request is late by one piece and never lost.
    """
    if _requested.is_set():
        raise KeyboardInterrupt


def _stop(number: int, frame: FrameType | None) -> None:
    _requested.set()
    raise KeyboardInterrupt
