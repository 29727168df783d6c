"""Ends what waits for an embedded Ray whose own processes are gone or stopped: calls to it never return."""

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from ensemble.errors import ClusterError

POLL_EVERY_S = 0.25
# Compiled code now and then drops an exception that a signal raised inside it, and closing waits too.
AGAIN_EVERY_S = 5.0
# Some of Ray's calls cannot be interrupted; Ray itself ends the process a minute after a loss, without
# a word of what was lost.
GIVE_UP_AFTER_S = 30.0
# A process that is stopped this long is as good as gone: Ray has given it up by then, too.
STOPPED_LIMIT_S = 60.0
# A signal that nothing else here uses, and that does nothing where no handler is installed.
_SIGNAL = signal.SIGURG
_EXIT_FAILED = 1
# The states of a process that has ended and is still listed.
_ENDED = ("Z", "X")
# The states of a process that was stopped, as by SIGSTOP or a debugger.
_STOPPED = ("T", "t")


class Watch:
    """A thread that looks whether processes are gone, and wakes the main thread if so. Use `watch`.

    Args:
        find: Returns which processes are there, by name, and whether each one runs.
        stopped: Names of those that were ended because they stayed stopped; it may grow.
    """

    def __init__(
        self, find: Callable[[], Mapping[str, bool]], stopped: Collection[str] = ()
    ) -> None:
        self._find = find
        self._stopped = stopped
        self._seen: set[str] = set()
        self._is_closing = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self.lost: tuple[str, ...] = ()

    def __enter__(self) -> "Watch":
        self._before = signal.signal(_SIGNAL, self._interrupt)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        signal.signal(_SIGNAL, self._before)

    def look(self) -> None:
        """Look once which processes are there, and remember those that were and are not."""
        if self._is_closing:
            return
        there = self._find()
        self._seen |= there.keys()
        self.lost = self.lost or tuple(name for name in sorted(self._seen) if not there.get(name))

    def close(self) -> None:
        """Look for the last time, because from now on the processes are ended on purpose.

        A loss that is known goes on to interrupt what waits.
        """
        self.look()
        self._is_closing = True

    def error(self) -> ClusterError:
        """Make the error that names the processes that are gone."""
        cause = "it was killed, or the machine is out of memory"
        if any(name in self._stopped for name in self.lost):
            cause = f"something stopped it, and after {STOPPED_LIMIT_S:g} s it was ended"
        return ClusterError(
            f"Ray on this machine has lost its {' and '.join(self.lost)} process: {cause}. Everything "
            "finished before is kept; the same command goes on from there."
        )

    def _poll(self) -> None:
        lost_at = 0.0
        while not self._ended.wait(AGAIN_EVERY_S if self.lost else POLL_EVERY_S):
            self.look()
            if not self.lost:
                continue
            lost_at = lost_at or time.monotonic()
            if time.monotonic() - lost_at > GIVE_UP_AFTER_S:
                self._give_up()
            signal.pthread_kill(threading.main_thread().ident or 0, _SIGNAL)

    def _give_up(self) -> None:
        error = self.error()
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        # The main thread cannot be reached. The table's lease is a dead process's then, and is taken over.
        os._exit(_EXIT_FAILED)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        # The one exception that Ray lets out of a call that waits.
        if self.lost and not self._ended.is_set():
            raise KeyboardInterrupt


@contextmanager
def watch(find: Callable[[], Mapping[str, bool]], stopped: Collection[str] = ()) -> Iterator[Watch]:
    """Stop what runs inside when a process that it depends on is gone.

    Only in the main thread; elsewhere nothing is watched, because no other thread can be interrupted.

    Args:
        find: Returns which processes are there, by name, and whether each one runs; called by another
            thread. A process that does not run is lost, and one that was there and is no more.
        stopped: Names of those that were ended because they stayed stopped; it may grow.

    Yields:
        The watch, to close before the processes are ended on purpose.

    Raises:
        ClusterError: A process is gone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield Watch(find, stopped)
        return
    with Watch(find, stopped) as watched:
        try:
            yield watched
        # Whatever came up: with its processes gone, calls to Ray fail in all ways.
        except BaseException as error:
            watched.look()
            if not watched.lost:
                raise
            raise watched.error() from error


class Children:
    """Programs that this process has started itself; those that stay stopped are ended.

    Args:
        names: Names of programs, of at most 15 bytes, as Linux keeps them.
        limit_s: How long a program may be stopped, in seconds.

    Attributes:
        stopped: Names of the programs that were ended.
    """

    def __init__(self, names: Collection[str], limit_s: float = STOPPED_LIMIT_S) -> None:
        self._names = names
        # Counted and not timed: while this process is stopped itself, nothing is counted.
        self._limit = limit_s / POLL_EVERY_S
        self._num_stopped = Counter[str]()
        self.stopped = set[str]()

    def __call__(self) -> dict[str, bool]:
        """Look which programs are there, by name, and whether each one runs."""
        running = dict[str, bool]()
        for path in Path("/proc/self/task").glob("*/children"):
            for pid in _read(path).split():
                # The name stands in parentheses, and the state after them.
                name, _, rest = _read(Path("/proc", pid, "stat")).partition("(")[2].rpartition(")")
                if name in self._names:
                    state = rest.split()[0]
                    running[name] = state not in _ENDED
                    self._end_if_stopped(int(pid), name, state)
        return running

    def _end_if_stopped(self, pid: int, name: str, state: str) -> None:
        self._num_stopped[name] = self._num_stopped[name] + 1 if state in _STOPPED else 0
        if self._num_stopped[name] > self._limit:
            self.stopped.add(name)
            # A child that nobody has waited for keeps its number, so that no other process is meant.
            os.kill(pid, signal.SIGKILL)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""  # the process has ended meanwhile
