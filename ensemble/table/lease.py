"""The lease: which driver may write a table. No clock of a machine is compared with that of another.

Holder n owns the object `lease/<n>.json`: created once (that is the election), then rewritten by its
owner alone, so a store needs nothing but "create if there is none". The highest number counts. A
driver on this machine holds the table as long as its process runs. One on another machine is watched:
it holds the table if its object changes within the duration of a lease, by the clock of who watches.

Who takes over a lease that was not given back creates a fence in the commit log. A driver that was
paused past its lease finds that fence where its next entry belongs, and stops.
"""

import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

from pydantic import NonNegativeFloat, ValidationError

from ensemble.config import Config
from ensemble.errors import TableBusyError, TableError
from ensemble.storage.store import Store, read_if_there
from ensemble.table import commit_log

FOLDER = "lease"
DURATION_S = 60.0
# A lease is renewed three times in its duration; who watches it looks this often, and that much longer.
_RENEWALS, _LOOKS = 3, 12
_ATTEMPTS = 3
_NAME = re.compile(rf"{FOLDER}/(\d{{8}})\.json")


class Holder(Config):
    """The driver that holds a lease, as written in the lease's object."""

    host: str
    """Name of the driver's machine."""
    pid: int
    """Process id of the driver."""
    process: str
    """Identity of the process on its machine, because a process id is used again."""
    token: str
    """Random digits that tell this lease from every other."""
    since: str
    """Time at which the lease began, in UTC and ISO 8601."""
    expires_at: NonNegativeFloat
    """Time of the last renewal plus the duration, in seconds since 1970 by its owner's clock; 0 once given back.
    It is compared with no other time: that it changes shows that the driver lives."""

    def describe(self) -> str:
        """Name the driver in words."""
        return f"process {self.pid} on {self.host}, since {self.since}"


class Lease:
    """The right to write a table; renewed by a thread of its own. Use `hold`."""

    def __init__(self, store: Store, number: int, holder: Holder, duration_s: float) -> None:
        self._store = store
        self.number = number
        self._holder = holder
        self._duration_s = duration_s
        self._renewed_at = _now()
        self._ended = threading.Event()
        self._lost = ""
        self._thread = threading.Thread(target=self._renew_until_ended, daemon=True)

    @property
    def is_lost(self) -> bool:
        """Whether another driver has taken the lease over, or it could not be renewed."""
        return bool(self._lost)

    def check(self) -> None:
        """Stop a driver that no longer holds the lease.

        Raises:
            TableBusyError: Another driver took the lease over, or it could not be renewed in time.
        """
        if not self._lost and self._is_overdue():
            # As after a pause of the whole process: find out before anything is written.
            self._renew()
        if self._lost:
            raise TableBusyError(
                f"this run lost the table {self._store.url}: {self._lost}. What it committed before "
                "is kept; `ensemble resume` goes on from there."
            )

    def start(self) -> None:
        """Start the thread that renews the lease."""
        self._thread.start()

    def end(self) -> None:
        """Give the lease back."""
        self._ended.set()
        self._thread.join()
        if not self._lost:
            self._write(0.0)
            return
        # Of a lease that could not be renewed, the driver still runs: others would wait for its end.
        with suppress(TableError):
            if _latest(self._store).number == self.number:
                self._write(0.0)

    def _renew_until_ended(self) -> None:
        while not self._ended.wait(self._duration_s / _RENEWALS) and not self._lost:
            self._renew()

    def _is_overdue(self) -> bool:
        return _now() > self._renewed_at + self._duration_s

    def _renew(self) -> None:
        began = _now()
        try:
            latest = _latest(self._store)
            if latest.number != self.number:
                name = latest.holder.describe() if latest.holder else "a driver that has ended"
                self._lost = f"{name} took it over"
                return
            self._write(time.time() + self._duration_s)
            self._renewed_at = began
        except TableError as error:
            # Not yet lost: the next renewal may get through before the lease ends.
            if self._is_overdue():
                self._lost = f"its lease could not be renewed ({error})"

    def _write(self, expires_at: float) -> None:
        self._holder = self._holder.model_copy(update={"expires_at": expires_at})
        self._store.replace(_key(self.number), _bytes(self._holder))


def _say_nothing(line: str) -> None:
    pass


@contextmanager
def hold(
    store: Store, duration_s: float = DURATION_S, say: Callable[[str], None] = _say_nothing
) -> Iterator[Lease]:
    """Hold the lease of a table, or take over that of a driver that is gone.

    A driver of this very machine whose process is gone holds nothing: a killed run can be resumed
    at once. One of another machine is watched for the duration of a lease, which is time that this
    call takes.

    Args:
        store: Store of the table.
        duration_s: Seconds without a renewal after which a driver of another machine is gone.
        say: Prints a line if a driver has to be watched.

    Raises:
        TableBusyError: Another driver holds the lease.
    """
    lease = _acquire(store, duration_s, say)
    lease.start()
    try:
        yield lease
    finally:
        lease.end()


def read_holder(store: Store) -> Holder | None:
    """Read which driver holds the lease; None if it was given back, or its process on this machine is gone.

    A driver of another machine is given though it may be gone: that shows only to who watches it.
    """
    latest = _latest(store)
    return None if _state(latest) is _State.GONE else latest.holder


def _acquire(store: Store, duration_s: float, say: Callable[[str], None]) -> Lease:
    latest = _latest(store)
    state = _state(latest)
    if state is _State.UNKNOWN:
        name = latest.holder.describe() if latest.holder else "an unknown driver"
        say(
            f"the table {store.url} was last written by {name}; watching for up to "
            f"{duration_s * (1 + 1 / _LOOKS):.0f} s whether it still does"
        )
        latest, state = _watch(store, latest, duration_s)
    if state is _State.ALIVE:
        raise _busy(store, latest.holder)
    _, highest = commit_log.end_of_log(store)
    # Higher than every entry's, though the folder of the leases was removed.
    number = max(latest.number, highest) + 1
    holder = Holder(
        host=socket.gethostname(),
        pid=os.getpid(),
        process=identify_process(os.getpid()),
        token=secrets.token_hex(8),
        since=datetime.now(UTC).isoformat(timespec="seconds"),
        expires_at=time.time() + duration_s,
    )
    lease = Lease(store, number, holder, duration_s)
    if not store.create(_key(number), _bytes(holder)):
        raise _busy(store, _latest(store).holder)
    for name in _names(store):
        if name < _key(number):
            store.remove(name)
    if not latest.was_given_back and (latest.number or highest):
        name = latest.holder.describe() if latest.holder else "an unknown driver"
        commit_log.fence(store, number, f"the table was taken over from {name}")
    return lease


def _busy(store: Store, holder: Holder | None) -> TableBusyError:
    name = holder.describe() if holder else "an unknown driver, whose lease is damaged"
    stop = f"stop it (`kill {holder.pid}` on {holder.host})" if holder else "stop it"
    return TableBusyError(
        f"another run is writing the table {store.url}: {name}. Wait for it, {stop}, or give this run "
        "another name."
    )


@dataclass(frozen=True)
class _Latest:
    """The lease that counts: its number, 0 if there is none; its object; its holder, unless that is damaged."""

    number: int
    content: bytes
    holder: Holder | None

    @property
    def was_given_back(self) -> bool:
        return self.holder is not None and not self.holder.expires_at


def _latest(store: Store) -> _Latest:
    for _ in range(_ATTEMPTS):
        names = _names(store)
        if not names:
            return _Latest(0, b"", None)
        content = read_if_there(store, names[-1])
        # Whoever takes a table over removes the lease before: then there is a later one.
        if content is not None:
            return _Latest(_number(names[-1]), content, _holder(store, names[-1], content))
    raise TableError(
        f"cannot read the lease {store.url}/{names[-1]}: it is listed and cannot be found. Run again when "
        "the store shows what it holds."
    )


def _holder(store: Store, name: str, content: bytes) -> Holder | None:
    # Bytes from far away may have been damaged under way only.
    for _ in range(_ATTEMPTS if store.is_remote else 1):
        try:
            return Holder.model_validate_json(content)
        except ValidationError:
            content = read_if_there(store, name) or b""
    return None


class _State(Enum):
    ALIVE = "alive"
    GONE = "gone"
    UNKNOWN = "unknown"


def _state(latest: _Latest) -> _State:
    """Tell whether a driver still runs; unknown is that of one on another machine."""
    if not latest.number or latest.was_given_back:
        return _State.GONE
    if latest.holder is None:
        return _State.UNKNOWN
    runs = is_running(latest.holder.pid, latest.holder.process)
    if runs is None:
        return _State.UNKNOWN
    return _State.ALIVE if runs else _State.GONE


def _watch(store: Store, first: _Latest, duration_s: float) -> tuple[_Latest, _State]:
    """Look at a lease again and again, until it changes or has not changed for its whole duration."""
    step = duration_s / _LOOKS
    deadline = _now() + duration_s + step
    while True:
        # Before the look: a pause between the two must not pass for time that was watched.
        is_last = _now() > deadline
        latest = _latest(store)
        if latest.content != first.content:
            return latest, _State.GONE if latest.was_given_back else _State.ALIVE
        if is_last:
            return latest, _State.GONE
        time.sleep(step)


def _now() -> float:
    """Seconds on a clock of this machine that nobody sets; while the machine sleeps, it goes on where it can."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def is_running(pid: int, process: str) -> bool | None:
    """Tell whether a process of this machine still runs; none for one of another machine.

    Args:
        pid: Its process id.
        process: What `identify_process` returned for it while it ran.
    """
    machine, _, _ = process.rpartition(" ")
    this_machine, _, _ = identify_process(os.getpid()).rpartition(" ")
    if not machine or machine != this_machine:
        return None
    return identify_process(pid) == process


def identify_process(pid: int) -> str:
    """Identify a process by the boot of its machine, its pid namespace and its start; empty if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")
        # The name in parentheses may hold blanks; the start time is the 22nd field.
        status, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    # A zombie has ended; it only waits for its parent to notice.
    return "" if status == "Z" else f"{boot} {namespace} {fields[18]}"


def _names(store: Store) -> list[str]:
    return [name for name in store.keys(FOLDER) if _NAME.fullmatch(name)]


def _key(number: int) -> str:
    return f"{FOLDER}/{number:08d}.json"


def _number(name: str) -> int:
    return int(name.removeprefix(f"{FOLDER}/").removesuffix(".json"))


def _bytes(holder: Holder) -> bytes:
    return (holder.model_dump_json(indent=1) + "\n").encode()
