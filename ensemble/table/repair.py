"""Finding what is damaged in a table, taking exactly that out, and removing files that nothing names.

Nothing sound is removed: entries are read by their names, since a listing may lack some; what cannot be
read now is no damage; what was damaged under way only is sound; and every removal comes after a fence.
"""

import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

from ensemble.errors import DamagedTableError, TableBusyError, TableError
from ensemble.storage.store import Store, read_if_there
from ensemble.table import fence, log_entry
from ensemble.table.checkpoint_writer import encode_from_entries
from ensemble.table.commit_log import CommitLog, CommitTally
from ensemble.table.lease import Lease
from ensemble.table.log_entry import Commit, Entry, Removal, ShardRemoval
from ensemble.table.log_names import (
    CHECKPOINT_ENTRIES,
    FOLDER,
    checkpoint_key,
    checkpoint_starts,
    key,
    shard_paths,
)
from ensemble.table.log_reader import LogReader, Slot
from ensemble.table.shard_reader import load_shard

# A file this young may be that of a driver which is about to name it, or which the next run takes up.
YOUNG_S = 600.0
_PROBE = re.compile(r"probe/[0-9a-f]{16}(-once)?")


@dataclass(frozen=True)
class Fault:
    """A log entry, a checkpoint of the log or a shard file that is damaged.

    Attributes:
        entry: Number of the log entry; of a checkpoint, that of its first.
        path: Path of the shard file, or of the entry or checkpoint if that is what is damaged.
        member: Name of the member whose rows are lost; empty where the entry cannot be read.
        images: Number of rows that are lost.
        reason: What is damaged.
        is_kept: Whether the same stands elsewhere, so that nothing has to be computed again: the
            entries of a checkpoint, or a damaged entry in a sound one.
    """

    entry: int
    path: str
    member: str
    images: int
    reason: str
    is_kept: bool = False


def find_faults(store: Store) -> tuple[Fault, ...]:
    """Read every log entry, checkpoint and shard, and list those that are damaged.

    Raises:
        TableError: The store cannot be read now.
    """
    faults: list[Fault] = []
    tally = CommitTally()
    log = CommitLog(store)
    firsts = set(checkpoint_starts(list(store.keys(FOLDER))))
    slots: list[Slot] = []
    for number, entry in log.scan(has_checkpoints=False):
        slots.append(entry)
        if not isinstance(entry, DamagedTableError) and not log.is_fenced(entry):
            tally.apply(number, entry)
        if len(slots) == CHECKPOINT_ENTRIES:
            faults += _faults_of_log(store, number + 1 - CHECKPOINT_ENTRIES, slots, firsts)
            slots = []
    faults += _faults_of_log(store, log.next_number - len(slots), slots, firsts)
    if not log.next_number and len(lost := shard_paths(store)) > 1:
        # A crash between the first shard and its entry leaves one file; more means a lost log.
        reason = f"{store.url} has {len(lost)} shard files and no commit log: it was removed"
        return (Fault(0, FOLDER, "", 0, reason),)
    for number, commit in tally.commits():
        try:
            load_shard(store, commit)
        except DamagedTableError as error:
            fault = Fault(number, commit.path, commit.name, commit.rows, str(error))
            faults.append(fault)
    return tuple(faults)


def _faults_of_log(
    store: Store, first: int, slots: Sequence[Slot], checkpoints: Container[int]
) -> list[Fault]:
    """List what is damaged of some entries that follow each other, and of their checkpoint."""
    faults, is_kept = [], False
    if first in checkpoints:
        try:
            _load_sound_checkpoint(store, first, slots)
            is_kept = True
        except DamagedTableError as error:
            faults.append(Fault(first, checkpoint_key(first), "", 0, str(error), is_kept=True))
    faults += [
        Fault(number, key(number), "", 0, str(slot), is_kept)
        for number, slot in enumerate(slots, first)
        if isinstance(slot, DamagedTableError)
    ]
    return faults


def _load_sound_checkpoint(store: Store, first: int, slots: Sequence[Slot]) -> tuple[Entry, ...]:
    """Load a checkpoint that says what its entries say, as far as they can be read.

    Raises:
        DamagedTableError: It is damaged, or says otherwise.
    """
    entries = LogReader(store).load_checkpoint(first)
    for number, (said, slot) in enumerate(zip(entries, slots, strict=True), first):
        if slot not in (said, None) and not isinstance(slot, DamagedTableError):
            raise DamagedTableError(
                f"the checkpoint {store.url}/{checkpoint_key(first)} says otherwise than entry "
                f"{key(number)}, which counts. `ensemble table repair` writes it anew."
            )
    return entries


def repair(store: Store, lease: Lease | None) -> tuple[Fault, ...]:
    """Take out what is damaged, so that the next run computes exactly that.

    A damaged entry is put back from a sound checkpoint, or overwritten by one that undoes it; a damaged
    shard is undone by a further entry, and a damaged checkpoint is written anew. No shard goes: the next
    run computes the same bytes, and finds them in place or puts them in the place of damaged ones.

    Args:
        store: Store of the table.
        lease: Lease of the table; none where the user promised that no run is writing.

    Raises:
        TableError: The store cannot be read or written now, answers another time otherwise, or the
            lease was lost.
    """
    faults = find_faults(store)
    if not faults:
        return ()
    _check(lease)
    end, highest = fence.end_of_log(store)
    # Of a lost log this fence is the first entry.
    fence.begin(store, end, lease.number if lease else highest + 1, "`ensemble table repair`")
    log = CommitLog(store, lease.number if lease else 0)
    _repair_log(store, faults, lease, lease.number if lease else highest + 1)
    counted = log.read(has_checkpoints=False)
    kept = {(number, commit.path): commit for number, commit in counted}
    for fault in faults:
        commit = kept.get((fault.entry, fault.path))
        if commit is None:
            continue
        _check_damaged_at_rest(store, commit)
        _check(lease)
        entry = LogReader(store).load(fault.entry)
        for _ in log.append(_undo_shard(entry, fault, log.writer)):
            pass
    return faults


def _undo_shard(entry: Entry, fault: Fault, writer: int) -> Removal | ShardRemoval:
    """Make the entry that takes one shard out, and leaves what else its entry names."""
    if len(log_entry.commits_of(entry)) == 1:
        return Removal(writer=writer, entry=fault.entry, reason=fault.reason)
    return ShardRemoval(writer=writer, entry=fault.entry, path=fault.path, reason=fault.reason)


def _repair_log(store: Store, faults: Sequence[Fault], lease: Lease | None, writer: int) -> None:
    """Mend the entries and the checkpoints that are damaged.

    A checkpoint is overwritten after its entries: one that a paused writer made of entries as they were
    before would be refused, because then there is one.
    """
    spans: dict[int, list[Fault]] = {}
    for fault in faults:
        first = fault.entry - fault.entry % CHECKPOINT_ENTRIES
        if fault.path in (key(fault.entry), checkpoint_key(fault.entry)):
            spans.setdefault(first, []).append(fault)
    end, _ = fence.end_of_log(store)
    for first, of_span in spans.items():
        entries = [fault for fault in of_span if fault.path == key(fault.entry)]
        substitutes = _substitutes(store, first, entries, writer)
        for fault, substitute in zip(entries, substitutes, strict=True):
            _check(lease)
            _mend_entry(store, fault, substitute)
        _check(lease)
        if first + CHECKPOINT_ENTRIES <= end:
            data = encode_from_entries(store, first)
            if data is None:
                store.remove(checkpoint_key(first))
            else:
                store.replace(checkpoint_key(first), data)


def _substitutes(store: Store, first: int, faults: Sequence[Fault], writer: int) -> list[Entry]:
    """Give what belongs in the place of each damaged entry: what a checkpoint says of it, or a removal."""
    if not faults or not faults[0].is_kept:
        return [Removal(writer=writer, entry=f.entry, reason=f.reason) for f in faults]
    slots = list(LogReader(store).load_span(range(first, first + CHECKPOINT_ENTRIES)))
    entries = _load_sound_checkpoint(store, first, slots)
    return [entries[fault.entry - first] for fault in faults]


def _mend_entry(store: Store, fault: Fault, substitute: Entry) -> None:
    """Put another entry in the place of one that is missing or damaged."""
    data = log_entry.encode(fault.entry, substitute)
    # A crash of the machine may leave an entry without a byte, which is there all the same.
    if read_if_there(store, fault.path) is None:
        if store.create(fault.path, data):
            return
    else:
        content = store.read_at_rest(fault.path)
        try:
            log_entry.decode(fault.entry, content)
        except (ValueError, RecursionError):
            store.replace(fault.path, data)
            return
    raise _is_sound_now(store, fault.path)


def _check_damaged_at_rest(store: Store, commit: Commit) -> None:
    """Refuse to undo the entry of a shard that was damaged under way only.

    Raises:
        TableError: The shard is sound now, or what answers may not be the store.
    """
    if read_if_there(store, commit.path) is None:
        return
    store.read_at_rest(commit.path)
    try:
        load_shard(store, commit)
    except DamagedTableError:
        return
    raise _is_sound_now(store, commit.path)


def _is_sound_now(store: Store, path: str) -> TableError:
    return TableError(
        f"{store.url}/{path} was damaged or missing a moment ago, and is sound now: the store or the "
        "network gives different answers. It was left as it is; run again when they are steady."
    )


@dataclass(frozen=True)
class Collection:
    """What `collect` did.

    Attributes:
        removed: Keys that were removed.
        young: Keys that nothing names, and that were left because they are young.
    """

    removed: tuple[str, ...]
    young: tuple[str, ...]


def collect(store: Store, lease: Lease | None, young_s: float = YOUNG_S) -> Collection:
    """Remove half-written files, which crashes leave, and shard files that no entry names.

    First a fence shuts out every driver before this one: what no entry names after it, none of them
    can name any more. Then the log is read again. Ages are told by the clock of the store alone.

    Args:
        store: Store of the table.
        lease: Lease of the table; none where the user promised that no run is writing.
        young_s: Age in seconds below which a file is left.

    Raises:
        DamagedTableError: An entry is missing or damaged, so its shard cannot be told from waste.
        TableBusyError: Another driver took the table over; nothing that it may need is removed.
    """
    if not _waste(store):
        return Collection((), ())
    _check(lease)
    end, highest = fence.end_of_log(store)
    number = fence.begin(store, end, lease.number if lease else highest + 1, "`ensemble table gc`")
    now = store.modified_at(key(number))
    removed, young = [], []
    for path in _waste(store):
        if now - _modified_at(store, path, now) < young_s:
            young.append(path)
            continue
        _check(lease)
        _remove(store, path, number)
        removed.append(path)
    return Collection(tuple(removed), tuple(young))


def _waste(store: Store) -> tuple[str, ...]:
    kept = [commit for _, commit in CommitLog(store).read(has_checkpoints=False)]
    probes = filter(_PROBE.fullmatch, store.keys("probe"))
    return (*store.leftovers(), *unreferenced(store, kept), *probes)


def _modified_at(store: Store, path: str, now: float) -> float:
    """Tell when a file was written; now, where it has gone meanwhile."""
    try:
        return store.modified_at(path)
    except DamagedTableError:
        return now


def _remove(store: Store, path: str, own_fence: int) -> None:
    """Remove a file, and put it back if this driver was taken over meanwhile.

    Whoever takes over creates a fence before it takes up a file, so it shows in the log by then.
    """
    content = read_if_there(store, path)
    store.remove(path)
    if content is not None and read_if_there(store, key(own_fence + 1)) is not None:
        store.create(path, content)
        raise TableBusyError(
            f"another run took over the table {store.url} while unused files were removed. No file that "
            "it may need is gone; run again when it has ended."
        )


def unreferenced(store: Store, commits: Iterable[Commit]) -> tuple[str, ...]:
    """List shard files that no commit names: a crash came before their entry, or the entry was lost."""
    named = {commit.path for commit in commits}
    return tuple(path for path in shard_paths(store) if path not in named)


def _check(lease: Lease | None) -> None:
    if lease is not None:
        lease.check()
