"""Fences in the commit log: who begins to write shuts out every driver before."""

from itertools import count

from ensemble.errors import DamagedTableError
from ensemble.storage.store import Store, read_if_there
from ensemble.table.commit_log import taken_over
from ensemble.table.log_entry import Fence, encode
from ensemble.table.log_names import (
    CHECKPOINT_ENTRIES,
    FOLDER,
    checkpoint_starts,
    entry_numbers,
    key,
    shard_paths,
)
from ensemble.table.log_reader import LogReader


def fence(store: Store, lease: int, reason: str) -> int | None:
    """Create a fence after the last entry, which shuts out every writer of an earlier lease.

    Args:
        store: Store of the table.
        lease: Number of the lease that begins; higher than that of any entry.
        reason: Why earlier writers are shut out.

    Returns:
        Number of the fence; None if the log was lost: a fence would look like the log of an empty table.

    Raises:
        TableBusyError: A later lease has a fence or an entry there already.
        TableError: The log cannot be read or written now.
    """
    first, _ = end_of_log(store)
    if not first and len(shard_paths(store)) > 1:
        return None
    return begin(store, first, lease, reason)


def begin(store: Store, first: int, lease: int, reason: str) -> int:
    """Create a fence at the first number that is free, and give that number; see `fence`."""
    reader, entry = LogReader(store), Fence(writer=lease, reason=reason)
    for number in count(first):
        if store.create(key(number), encode(number, entry)):
            return number
        try:
            other = reader.load(number)
        except DamagedTableError:
            # Whoever wrote it has stopped there: no writer goes on past an entry that it cannot read.
            continue
        if other.writer >= lease:
            raise taken_over(
                store,
                f"entry {number} of the commit log was written on {other.host} at {other.committed_at} "
                "under a later lease",
            )
    raise AssertionError


def end_of_log(store: Store) -> tuple[int, int]:
    """Find the number after the last entry, and the highest writer of the last entry that can be read.

    Raises:
        TableError: The log cannot be read now.
    """
    names = list(store.keys(FOLDER))
    ends = [first + CHECKPOINT_ENTRIES for first in checkpoint_starts(names)]
    end = max([*(number + 1 for number in entry_numbers(names)), *ends], default=0)
    while read_if_there(store, key(end)) is not None:
        end += 1
    for number in reversed(range(end)):
        try:
            return end, LogReader(store).load(number).writer
        except DamagedTableError:
            continue
    return end, 0
