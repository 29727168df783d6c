"""The commit log: numbered entries, each created once. A shard that no entry names does not exist.

Numbers are what keeps writers apart. Who takes a table over creates a fence under the next number: a
driver of an earlier lease, wherever it was paused, finds that number taken when it goes on, and stops.
"""

from collections.abc import Callable, Iterator

from ensemble.errors import DamagedTableError, TableBusyError
from ensemble.storage.store import Store
from ensemble.table.image_numbers import SharedValues
from ensemble.table.log_entry import (
    Commit,
    Entry,
    Fence,
    Removal,
    ShardRemoval,
    commits_of,
    encode,
)
from ensemble.table.log_names import key, shard_paths
from ensemble.table.log_reader import LogReader


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
        self._reader = LogReader(store, self.shared)

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

    def read(self, has_checkpoints: bool = True) -> Iterator[tuple[int, Commit]]:
        """Read all commits that count, with the numbers of their entries, from the first to the last.

        Args:
            has_checkpoints: Whether the entries that a sound checkpoint has are taken from it; without,
                no more is believed than the entries themselves say.

        Raises:
            DamagedTableError: An entry is missing or damaged.
        """
        tally = CommitTally()
        for number, entry in self.scan(has_checkpoints):
            if isinstance(entry, DamagedTableError):
                raise entry
            if not self.is_fenced(entry):
                tally.apply(number, entry)
        self._check_not_lost()
        yield from tally.commits()

    def scan(self, has_checkpoints: bool = True) -> Iterator[tuple[int, Entry | DamagedTableError]]:
        """Read every entry, and give the error of each that is missing or damaged; see `LogReader.entries`.

        Raises:
            TableError: The folder or an entry cannot be read now.
        """
        for number, entry in self._reader.entries(has_checkpoints):
            self._next = number + 1
            if isinstance(entry, DamagedTableError):
                yield number, entry
                continue
            self._highest_writer = max(self._highest_writer, entry.writer)
            if isinstance(entry, Fence):
                self._fence = max(self._fence, entry.writer)
            yield number, self.shared.share_entry(entry)

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
            other = self._reader.load(number)
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

    def _check_not_lost(self) -> None:
        if not self._next and (lost := len(shard_paths(self._store))) > 1:
            raise DamagedTableError(
                f"the table {self._store.url} has {lost} shard files and no commit log. Put the log "
                "back, or let `ensemble table repair` begin a new one, so that the next run computes "
                "again what the files hold."
            )


def taken_over(store: Store, how: str) -> TableBusyError:
    """Word the error of a driver that lost its table."""
    return TableBusyError(
        f"this run lost the table {store.url}: {how}. What it committed before is kept; `ensemble "
        "resume` goes on from there once no other run is writing."
    )
