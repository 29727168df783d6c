"""The commit log: numbered entries, each created once. A shard that no entry names does not exist.

Numbers are what keeps writers apart. Who takes a table over creates a fence under the next number: a
driver of an earlier lease, wherever it was paused, finds that number taken when it goes on, and stops.
"""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

from pydantic import ValidationError

from ensemble.errors import DamagedTableError, TableBusyError
from ensemble.storage.store import Store, read_attempts, read_if_there
from ensemble.table.image_numbers import SharedValues
from ensemble.table.log_entry import (
    SHARD_PATH,
    SHARDS,
    Commit,
    Entry,
    Fence,
    Group,
    Removal,
    ShardRemoval,
    commits_of,
    decode,
    encode,
)

FOLDER = "log"
# Entries of a store on the network are read side by side: each waits for its answer most of the time.
_READ_THREADS, _READ_AT_ONCE = 16, 256
ENTRY_NAME = re.compile(rf"{FOLDER}/(\d{{8}})\.json")

# What is found under a name: an entry, the error of one that is damaged, or nothing.
_Slot = Entry | DamagedTableError | None


class CommitTally:
    """The commits that count after some entries of a log, which are applied in their order."""

    def __init__(self) -> None:
        self._by_number: dict[int, tuple[Commit, ...]] = {}

    def apply(self, number: int, entry: Entry) -> None:
        """Let an entry that no fence shuts out take effect.

        Args:
            number: Number of the entry.
            entry: The entry.
        """
        if commits := commits_of(entry):
            self._by_number[number] = commits
        elif isinstance(entry, Removal):
            self._by_number.pop(entry.entry, None)
        elif isinstance(entry, ShardRemoval) and entry.entry in self._by_number:
            commits = self._by_number[entry.entry]
            self._by_number[entry.entry] = tuple(c for c in commits if c.path != entry.path)

    def commits(self) -> Iterator[tuple[int, Commit]]:
        """Give all commits with the numbers of their entries, in their order."""
        for number, commits in self._by_number.items():
            for commit in commits:
                yield number, commit


class CommitLog:
    """Appends and reads entries of one table. The numbers are the fence between writers.

    Args:
        store: Store of the table.
        lease: Number of the lease under which entries are written; 0 for none.
    """

    def __init__(self, store: Store, lease: int = 0) -> None:
        self._store = store
        self._lease = lease
        self._next = 0
        self._fence = 0
        self._highest_writer = 0
        self.shared = SharedValues()

    @property
    def next_number(self) -> int:
        """The number that the next entry gets."""
        return self._next

    @property
    def writer(self) -> int:
        """The `writer` of entries to append.

        Without a lease it is the highest in the log, so that any later lease shuts this writer out.
        """
        return self._lease or self._highest_writer

    def read(self, may_lack_log: bool = False) -> Iterator[tuple[int, Commit]]:
        """Read all commits that count, with the numbers of their entries, from the first to the last.

        Args:
            may_lack_log: Take shard files without any log for an empty table.

        Raises:
            DamagedTableError: An entry is missing or damaged.
        """
        tally = CommitTally()
        for number, entry in self.scan():
            if isinstance(entry, DamagedTableError):
                raise entry
            if not self.is_fenced(entry):
                tally.apply(number, entry)
        if not may_lack_log:
            self._check_not_lost()
        yield from tally.commits()

    def scan(self) -> Iterator[tuple[int, Entry | DamagedTableError]]:
        """Read every entry by its name, and give the error of each that is missing or damaged.

        A listing only tells how far the log reaches at least: one that comes late hides the last
        entries, and other programs leave files of their own in the folder.

        Raises:
            TableError: The folder or an entry cannot be read now.
        """
        names = {name for name in self._store.keys(FOLDER) if ENTRY_NAME.fullmatch(name)}
        end = max(map(entry_number, names), default=-1) + 1
        for number, entry in self._load_in_turn(end):
            if entry is None:
                if number >= end:
                    break
                entry = self._removed(number, names)
            elif not isinstance(entry, DamagedTableError):
                self._highest_writer = max(self._highest_writer, entry.writer)
                if isinstance(entry, Fence):
                    self._fence = max(self._fence, entry.writer)
            self._next = number + 1
            yield number, entry

    def _load_in_turn(self, end: int) -> Iterator[tuple[int, _Slot]]:
        """Load entries from the first on, without end; those before `end` many at a time where that is faster."""

        def load(number: int) -> _Slot:
            try:
                return self._load_if_there(number)
            except DamagedTableError as error:
                return error

        first = 0
        if self._store.is_remote and end >= _READ_THREADS:
            # Threads of its own each time: threads that are kept are not there in a process that was forked.
            with ThreadPoolExecutor(_READ_THREADS, "log") as readers:
                for first in range(0, end, _READ_AT_ONCE):
                    numbers = range(first, min(first + _READ_AT_ONCE, end))
                    yield from zip(
                        numbers, map(self._share, readers.map(load, numbers)), strict=True
                    )
            first = end
        for number in count(first):
            yield number, self._share(load(number))

    def _share(self, entry: _Slot) -> _Slot:
        """Let the commits of an entry share what is equal, before those of the next one are there."""
        if isinstance(entry, Commit):
            return self.shared.share(entry)
        if isinstance(entry, Group):
            commits = tuple(map(self.shared.share, entry.commits))
            return entry.model_copy(update={"commits": commits})
        return entry

    def is_fenced(self, entry: Entry) -> bool:
        """Tell whether an entry comes after a fence of a later lease, so that it does not count."""
        return entry.writer < self._fence

    def append(
        self, entry: Entry, publish_shard: Callable[[], None] | None = None
    ) -> Iterator[Commit]:
        """Make an entry part of the log, so that a crash cannot undo it.

        Args:
            entry: The entry.
            publish_shard: Called once the entry is ready, and before it counts.

        Yields:
            Commits of a driver whose lease ran out, which took a number before this one could.

        Raises:
            TableBusyError: Another driver is writing, or has shut this one out.
        """
        if 0 < self._lease < self._fence:
            how = f"lease {self._fence} has fenced the commit log, and this run's is {self._lease}"
            raise taken_over(self._store, how)
        while True:
            number = self._next
            with self._store.stage([encode(number, entry)]) as staged:
                if publish_shard:
                    publish_shard()
                is_ours = staged.publish(key(number))
            if is_ours:
                self._store.sync([*(commit.path for commit in commits_of(entry)), key(number)])
                self._next += 1
                return
            other = self.load(number)
            if isinstance(other, Fence) and other.writer > self.writer:
                raise taken_over(
                    self._store,
                    f"entry {number} of the commit log, written on {other.host} at "
                    f"{other.committed_at}, shuts earlier writers out: {other.reason}",
                )
            is_own_fence = isinstance(other, Fence) and other.writer == self._lease
            is_removal = isinstance(other, Removal | ShardRemoval)
            if not is_own_fence and (other.writer >= self.writer or is_removal):
                raise TableBusyError(
                    f"another run is writing the table {self._store.url} (it holds entry {number} of "
                    f"the commit log, written on {other.host} at {other.committed_at}). Wait for it, "
                    "or give this run another name."
                )
            self._next += 1
            yield from map(self.shared.share, commits_of(other))

    def load(self, number: int) -> Entry:
        """Load one entry.

        Raises:
            DamagedTableError: The entry is missing or damaged.
        """
        entry = self._load_if_there(number)
        if entry is None:
            raise self._removed(number, set())
        return entry

    def _load_if_there(self, number: int) -> Entry | None:
        for attempts_left in reversed(read_attempts(self._store)):
            data = read_if_there(self._store, key(number))
            if data is None:
                return None
            try:
                return decode(number, data)
            except (ValueError, RecursionError) as error:
                if not attempts_left:
                    raise DamagedTableError(
                        f"the log entry {self._store.url}/{key(number)} is damaged: {_reason(error)}. "
                        "`ensemble table repair` drops what it named, so that the next run computes "
                        "that again."
                    ) from error
        raise AssertionError

    def _removed(self, number: int, names: set[str]) -> DamagedTableError:
        later = min((name for name in names if name > key(number)), default="nothing")
        return DamagedTableError(
            f"the commit log {self._store.url}/{FOLDER} has {later} where entry {key(number)} belongs; "
            "an entry was removed. `ensemble table repair` drops what it named, so that the next run "
            "computes that again."
        )

    def _check_not_lost(self) -> None:
        if not self._next and (lost := len(shard_paths(self._store))) > 1:
            raise DamagedTableError(
                f"the table {self._store.url} has {lost} shard files and no commit log. Put the log "
                "back, or let `ensemble table repair` begin a new one, so that the next run computes "
                "again what the files hold."
            )


def shard_paths(store: Store) -> tuple[str, ...]:
    """List the paths of all shard files, sorted; files of other programs are passed over."""
    return tuple(filter(re.compile(SHARD_PATH).fullmatch, store.keys(SHARDS)))


def key(number: int) -> str:
    """Name the object of an entry."""
    return f"{FOLDER}/{number:08d}.json"


def taken_over(store: Store, how: str) -> TableBusyError:
    """Word the error of a driver that lost its table."""
    return TableBusyError(
        f"this run lost the table {store.url}: {how}. What it committed before is kept; `ensemble "
        "resume` goes on from there once no other run is writing."
    )


def entry_number(name: str) -> int:
    """Give the number of an entry, by the name of its object."""
    return int(name.removeprefix(f"{FOLDER}/").removesuffix(".json"))


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"it is not an entry ({'.'.join(map(repr, first['loc']))}: {first['msg']})"
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
