"""Finding what is damaged in a table, removing exactly that, and removing files that nothing names."""

from collections.abc import Iterable
from dataclasses import dataclass

from ensemble.errors import DamagedTableError
from ensemble.storage.store import Store
from ensemble.table import commit_log
from ensemble.table.commit_log import FOLDER, Commit, CommitLog, Removal
from ensemble.table.lease import Lease
from ensemble.table.shard_reader import load_shard


@dataclass(frozen=True)
class Fault:
    """A log entry or a shard file that is damaged.

    Attributes:
        entry: Number of the log entry.
        path: Path of the shard file, or of the entry if that is what is damaged.
        member: Name of the member whose rows are lost; empty where the entry cannot be read.
        images: Number of rows that are lost.
        reason: What is damaged.
    """

    entry: int
    path: str
    member: str
    images: int
    reason: str


def find_faults(store: Store) -> tuple[Fault, ...]:
    """Read every log entry and every shard, and list those that are damaged.

    Raises:
        TableError: The store cannot be read now.
    """
    faults: list[Fault] = []
    if not _num_entries(store) and len(lost := list(store.keys("columns"))) > 1:
        # A crash between the first shard and its entry leaves one file; more means a lost log.
        reason = f"{store.url} has {len(lost)} shard files and no commit log: it was removed"
        return (Fault(0, FOLDER, "", 0, reason),)
    commits: dict[int, Commit] = {}
    for number in range(_num_entries(store)):
        try:
            entry = CommitLog(store).load(number)
        except DamagedTableError as error:
            faults.append(Fault(number, commit_log.key(number), "", 0, str(error)))
            continue
        if isinstance(entry, Removal):
            commits.pop(entry.entry, None)
        else:
            commits[number] = entry
    for number, commit in commits.items():
        try:
            load_shard(store, commit)
        except DamagedTableError as error:
            fault = Fault(number, commit.path, commit.name, commit.rows, str(error))
            faults.append(fault)
    return tuple(faults)


def repair(store: Store, lease: Lease | None) -> tuple[Fault, ...]:
    """Remove what is damaged, so that the next run computes exactly that.

    A damaged entry is overwritten by one that undoes it; a damaged shard is undone by a further
    entry, and its file removed. A shard whose entry is lost becomes unreferenced: if the next run
    computes the same bytes, it finds them in place.

    Args:
        store: Store of the table.
        lease: Lease of the table; none where the user promised that no run is writing.

    Raises:
        TableError: The store cannot be read or written now, or the lease was lost.
    """
    faults, writer = find_faults(store), lease.number if lease else 0
    for fault in faults:
        if fault.path == commit_log.key(fault.entry):
            _check(lease)
            removal = Removal(writer=writer, entry=fault.entry, reason=fault.reason)
            store.replace(fault.path, commit_log.encode(fault.entry, removal))
    log = CommitLog(store, writer)
    kept = dict(log.read(may_lack_log=True))
    for fault in faults:
        if fault.entry not in kept:
            continue
        _check(lease)
        removal = Removal(writer=writer, entry=fault.entry, reason=fault.reason)
        for _ in log.append(removal):
            pass
        del kept[fault.entry]
        if fault.path not in {commit.path for commit in kept.values()}:
            store.remove(fault.path)
    if not log.next_number:
        # The whole log is gone: what its files held is computed again.
        for path in unreferenced(store, kept.values()):
            store.remove(path)
    return faults


def collect(store: Store, lease: Lease | None) -> tuple[str, ...]:
    """Remove half-written files, which crashes leave, and shard files that no entry names.

    Args:
        store: Store of the table.
        lease: Lease of the table; none where the user promised that no run is writing.

    Raises:
        DamagedTableError: An entry is missing or damaged, so its shard cannot be told from waste.
    """
    kept = dict(CommitLog(store).read())
    waste = (*store.leftovers(), *unreferenced(store, kept.values()), *store.keys("probe"))
    for path in waste:
        _check(lease)
        store.remove(path)
    return waste


def unreferenced(store: Store, commits: Iterable[Commit]) -> tuple[str, ...]:
    """List shard files that no commit names: a crash came before their entry, or the entry was lost."""
    named = {commit.path for commit in commits}
    return tuple(key for key in store.keys("columns") if key not in named)


def _check(lease: Lease | None) -> None:
    if lease is not None:
        lease.check()


def _num_entries(store: Store) -> int:
    """Give the highest number of an entry, plus one; entries may be missing below it."""
    names = list(store.keys(FOLDER))
    stem = names[-1].rpartition("/")[2].removesuffix(".json") if names else ""
    return int(stem) + 1 if stem.isdecimal() else 0
