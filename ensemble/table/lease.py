"""The lease: which driver may write a table, until when. Needs no clock but the drivers' own.

Holder n owns the object `lease/<n>.json`: created once (that is the election), then rewritten by its
owner alone, so a store needs nothing but "create if there is none". The highest number counts. A
driver that was paused past its expiry learns from a higher number that it lost; until then the
commit log, whose entries carry the number, keeps it from doing harm.
"""

import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import NonNegativeFloat, ValidationError

from ensemble.config import Config
from ensemble.errors import TableBusyError, TableError
from ensemble.storage.store import Store

FOLDER = "lease"
DURATION_S = 60.0
# Clocks of two machines may differ by this much.
SKEW_S = 5.0


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
    """Time at which the lease ends, in seconds since 1970 by its owner's clock; 0 once given back."""

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
        if not self._lost and time.time() > self._holder.expires_at:
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

    def _renew_until_ended(self) -> None:
        while not self._ended.wait(self._duration_s / 3) and not self._lost:
            self._renew()

    def _renew(self) -> None:
        try:
            number, holder = _latest(self._store)
            if number != self.number:
                name = holder.describe() if holder else "a driver that has ended"
                self._lost = f"{name} took it over"
                return
            self._write(time.time() + self._duration_s)
        except TableError as error:
            # Not yet lost: the next renewal may get through before the lease expires.
            if time.time() > self._holder.expires_at:
                self._lost = f"its lease could not be renewed ({error})"

    def _write(self, expires_at: float) -> None:
        self._holder = self._holder.model_copy(update={"expires_at": expires_at})
        self._store.replace(_key(self.number), _bytes(self._holder))


@contextmanager
def hold(store: Store, duration_s: float = DURATION_S) -> Iterator[Lease]:
    """Hold the lease of a table, or take over one that expired.

    A driver of this very machine whose process is gone holds nothing: a killed run can be resumed
    at once. One of another machine is waited for until its lease expires.

    Raises:
        TableBusyError: Another driver holds the lease.
    """
    lease = _acquire(store, duration_s)
    lease.start()
    try:
        yield lease
    finally:
        lease.end()


def read_holder(store: Store) -> Holder | None:
    """Read which driver holds the lease now; None if none does."""
    holder = _latest(store)[1]
    return holder if holder is not None and _is_alive(holder) else None


def _acquire(store: Store, duration_s: float) -> Lease:
    number, holder = _latest(store)
    if holder is not None and _is_alive(holder):
        raise _busy(store, holder)
    now = time.time()
    holder = Holder(
        host=socket.gethostname(),
        pid=os.getpid(),
        process=_process(os.getpid()),
        token=secrets.token_hex(8),
        since=datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
        expires_at=now + duration_s,
    )
    if not store.create(_key(number + 1), _bytes(holder)):
        raise _busy(store, _latest(store)[1] or holder)
    for name in store.keys(FOLDER):
        if name < _key(number + 1):
            store.remove(name)
    return Lease(store, number + 1, holder, duration_s)


def _busy(store: Store, holder: Holder) -> TableBusyError:
    left = max(0, holder.expires_at + SKEW_S - time.time())
    return TableBusyError(
        f"another run is writing the table {store.url}: {holder.describe()}. Wait for it, stop it, or "
        f"give this run another name; if it is gone, its lease expires in {left:.0f} s."
    )


def _latest(store: Store) -> tuple[int, Holder | None]:
    """Read the highest number and its holder; None if the object is damaged, for then nobody holds it."""
    names = list(store.keys(FOLDER))
    if not names:
        return 0, None
    number = int(Path(names[-1]).stem)
    # Bytes from far away may have been damaged under way only.
    for _ in range(3 if store.is_remote else 1):
        with suppress(ValidationError):
            return number, Holder.model_validate_json(store.read(names[-1]))
    return number, None


def _is_alive(holder: Holder) -> bool:
    if time.time() > holder.expires_at + (SKEW_S if holder.expires_at else 0):
        return False
    machine, _, started = holder.process.rpartition(" ")
    this_machine, _, _ = _process(os.getpid()).rpartition(" ")
    if machine and machine == this_machine:
        return _process(holder.pid) == f"{machine} {started}"
    return True


def _process(pid: int) -> str:
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


def _key(number: int) -> str:
    return f"{FOLDER}/{number:08d}.json"


def _bytes(holder: Holder) -> bytes:
    return (holder.model_dump_json(indent=1) + "\n").encode()
