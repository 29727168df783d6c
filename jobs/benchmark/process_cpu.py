"""CPU seconds of this process, of everything it started, and of the whole machine (Linux only); torch's threads."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use so many threads until the block ends."""
    # Here, because torch takes seconds to import.
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cpu_seconds() -> float:
    """Sum the user and system time so far of this process and of all that it started, ended ones too."""
    return sum(_seconds(pid) for pid in _family(os.getpid()))


def cpu_seconds_by_pid(name: str) -> dict[int, float]:
    """Give the user and system time so far of the processes that this one started, by name."""
    return {pid: _seconds(pid) for pid in _family(os.getpid()) if _name(pid).startswith(name)}


def machine_seconds() -> float:
    """Sum the CPU seconds so far of all programs on this machine, on all cores."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    # user, nice, system, idle, iowait, irq, softirq, steal
    return sum(int(fields[index]) for index in (0, 1, 2, 5, 6, 7)) / _TICKS


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _family(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            pids = [int(child) for child in children.read_text().split()]
        except OSError:
            continue
        for child in pids:
            yield from _family(child)


def _seconds(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    # After the name, which may hold anything: fields 14 to 17 are utime, stime, cutime, cstime.
    fields = text.rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / _TICKS
