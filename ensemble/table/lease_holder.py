"""The holder of a lease as its object tells it, and whether that driver still runs."""

import os
import re
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from pydantic import NonNegativeFloat, ValidationError

from ensemble.config import Config
from ensemble.errors import TableError
from ensemble.storage.store import Store, read_attempts, read_if_there

FOLDER = "lease"
# Who watches a lease looks this often in its duration, and that much longer.
LOOKS = 12
_LISTINGS = 3
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


@dataclass(frozen=True)
class Latest:
    """The lease that counts.

    Attributes:
        number: Its number; 0 if there is none.
        content: Its object.
        holder: Its holder; None where the object is damaged.
    """

    number: int
    content: bytes
    holder: Holder | None

    @property
    def was_given_back(self) -> bool:
        """Whether its driver ended as it should."""
        return self.holder is not None and not self.holder.expires_at


def latest_lease(store: Store) -> Latest:
    """Read the lease that counts.

    Raises:
        TableError: The leases cannot be read now.
    """
    for _ in range(_LISTINGS):
        names = lease_keys(store)
        if not names:
            return Latest(0, b"", None)
        content = read_if_there(store, names[-1])
        # Whoever takes a table over removes the lease before: then there is a later one.
        if content is not None:
            return Latest(_number(names[-1]), content, _holder(store, names[-1], content))
    raise TableError(
        f"cannot read the lease {store.url}/{names[-1]}: it is listed and cannot be found. Run again when "
        "the store shows what it holds."
    )


def _holder(store: Store, name: str, content: bytes) -> Holder | None:
    for _ in read_attempts(store):
        try:
            return Holder.model_validate_json(content)
        except ValidationError:
            content = read_if_there(store, name) or b""
    return None


class State(Enum):
    """What is known of a driver."""

    ALIVE = "alive"
    GONE = "gone"
    UNKNOWN = "unknown"


def state_of(latest: Latest) -> State:
    """Tell whether a driver still runs; unknown is that of one on another machine."""
    if not latest.number or latest.was_given_back:
        return State.GONE
    if latest.holder is None:
        return State.UNKNOWN
    runs = is_running(latest.holder.pid, latest.holder.process)
    if runs is None:
        return State.UNKNOWN
    return State.ALIVE if runs else State.GONE


def watch(store: Store, first: Latest, duration_s: float) -> tuple[Latest, State]:
    """Look at a lease again and again, until it changes or has not changed for its whole duration."""
    step = duration_s / LOOKS
    deadline = now_s() + duration_s + step
    while True:
        # Before the look: a pause between the two must not pass for time that was watched.
        is_last = now_s() > deadline
        latest = latest_lease(store)
        if latest.content != first.content:
            return latest, State.GONE if latest.was_given_back else State.ALIVE
        if is_last:
            return latest, State.GONE
        time.sleep(step)


def now_s() -> float:
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


def lease_keys(store: Store) -> list[str]:
    """List the keys of leases, sorted; files of other programs are passed over."""
    return [name for name in store.keys(FOLDER) if _NAME.fullmatch(name)]


def lease_key(number: int) -> str:
    """Name the object of a lease."""
    return f"{FOLDER}/{number:08d}.json"


def _number(name: str) -> int:
    return int(name.removeprefix(f"{FOLDER}/").removesuffix(".json"))


def as_bytes(holder: Holder) -> bytes:
    """Encode a holder as the object of its lease."""
    return (holder.model_dump_json(indent=1) + "\n").encode()
