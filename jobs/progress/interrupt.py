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
    """Raise KeyboardInterrupt if a stop was requested.

    Compiled code now and then drops an exception that a signal raised inside it. Called at each
    piece of work, this makes the stop late by one piece at most, and never lost.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM has arrived.
    """
    if _requested.is_set():
        raise KeyboardInterrupt


def _stop(number: int, frame: FrameType | None) -> None:
    _requested.set()
    raise KeyboardInterrupt
