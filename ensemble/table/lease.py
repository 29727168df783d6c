"""The lease: which driver may write a table. No clock of a machine is compared with that of another.

Holder n owns the object `lease/<n>.json`: created once (that is the election), then rewritten by its
owner alone, so a store needs nothing but "create if there is none". The highest number counts. A
driver on this machine holds the table as long as its process runs. One on another machine is watched:
it holds the table if its object changes within the duration of a lease, by the clock of who watches.

Who takes over a lease that was not given back creates a fence in the commit log. A driver that was
paused past its lease finds that fence where its next entry belongs, and stops.
"""

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from ensemble.errors import TableBusyError, TableError
from ensemble.storage.store import Store
from ensemble.table import fence
from ensemble.table.lease_holder import (
    LOOKS,
    Holder,
    State,
    as_bytes,
    identify_process,
    latest_lease,
    lease_key,
    lease_keys,
    now_s,
    state_of,
    watch,
)

DURATION_S = 60.0
_RENEWALS = 3  # in the duration of a lease


class Lease:
    """The right to write a table; renewed by a thread of its own. Use `hold`."""

    def __init__(self, store: Store, number: int, holder: Holder, duration_s: float) -> None:
        self._store = store
        self.number = number
        self._holder = holder
        self._duration_s = duration_s
        self._renewed_at = now_s()
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
            if latest_lease(self._store).number == self.number:
                self._write(0.0)

    def _renew_until_ended(self) -> None:
        while not self._ended.wait(self._duration_s / _RENEWALS) and not self._lost:
            self._renew()

    def _is_overdue(self) -> bool:
        return now_s() > self._renewed_at + self._duration_s

    def _renew(self) -> None:
        began = now_s()
        try:
            latest = latest_lease(self._store)
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
        self._store.replace(lease_key(self.number), as_bytes(self._holder))


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
    latest = latest_lease(store)
    return None if state_of(latest) is State.GONE else latest.holder


def _acquire(store: Store, duration_s: float, say: Callable[[str], None]) -> Lease:
    latest = latest_lease(store)
    state = state_of(latest)
    if state is State.UNKNOWN:
        name = latest.holder.describe() if latest.holder else "an unknown driver"
        say(
            f"the table {store.url} was last written by {name}; watching for up to "
            f"{duration_s * (1 + 1 / LOOKS):.0f} s whether it still does"
        )
        latest, state = watch(store, latest, duration_s)
    if state is State.ALIVE:
        raise _busy(store, latest.holder)
    _, highest = fence.end_of_log(store)
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
    if not store.create(lease_key(number), as_bytes(holder)):
        raise _busy(store, latest_lease(store).holder)
    for name in lease_keys(store):
        if name < lease_key(number):
            store.remove(name)
    if not latest.was_given_back and (latest.number or highest):
        name = latest.holder.describe() if latest.holder else "an unknown driver"
        fence.fence(store, number, f"the table was taken over from {name}")
    return lease


def _busy(store: Store, holder: Holder | None) -> TableBusyError:
    name = holder.describe() if holder else "an unknown driver, whose lease is damaged"
    stop = f"stop it (`kill {holder.pid}` on {holder.host})" if holder else "stop it"
    return TableBusyError(
        f"another run is writing the table {store.url}: {name}. Wait for it, {stop}, or give this run "
        "another name."
    )
