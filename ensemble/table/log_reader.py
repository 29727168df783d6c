"""Reading the log of a table: its checkpoints where they are sound, and the entries that no checkpoint has."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import TypeVar

from pydantic import ValidationError

from ensemble.errors import DamagedTableError
from ensemble.storage.store import Store, read_attempts, read_if_there
from ensemble.table import checkpoint
from ensemble.table.image_numbers import SharedValues
from ensemble.table.log_entry import Entry, decode
from ensemble.table.log_names import (
    CHECKPOINT_ENTRIES,
    FOLDER,
    checkpoint_key,
    checkpoint_starts,
    entry_numbers,
    key,
)

# Objects of a store on the network are read side by side: each waits for its answer most of the time.
_READ_THREADS, _READ_AHEAD = 16, 32

# What is found under a name: an entry, the error of one that is damaged, or nothing.
Slot = Entry | DamagedTableError | None
_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


class LogReader:
    """Reads what is under the names of a log; what it means is for `CommitLog` to say.

    Args:
        store: Store of the table.
        shared: Ids and identities of commits, which equal ones of checkpoints are taken from.
    """

    def __init__(self, store: Store, shared: SharedValues | None = None) -> None:
        self._store = store
        self._shared = shared or SharedValues()

    def entries(self, has_checkpoints: bool) -> Iterator[tuple[int, Entry | DamagedTableError]]:
        """Read every entry in turn, and give the error of each that is missing or damaged.

        A listing only tells how far the log reaches at least: one that comes late hides the last
        entries, and other programs leave files of their own in the folder.

        Args:
            has_checkpoints: Whether the entries that a sound checkpoint has are taken from it.

        Raises:
            TableError: The folder or an object cannot be read now.
        """
        names = list(self._store.keys(FOLDER))
        firsts, numbers = checkpoint_starts(names), sorted(entry_numbers(names))
        ends = [*(number + 1 for number in numbers[-1:]), *(n + CHECKPOINT_ENTRIES for n in firsts)]
        end = max(ends, default=0)
        for number, slot in self._slots(firsts if has_checkpoints else [], end):
            if slot is None:
                if number >= end:
                    return
                slot = self._removed(number, numbers)
            yield number, slot

    def _slots(self, firsts: Iterable[int], end: int) -> Iterator[tuple[int, Slot]]:
        """Load entries from the first on, without end; what the listing has many at a time, where that is faster."""
        spans = _spans(firsts, end)
        for span, content in zip(spans, self._side_by_side(self._load_span, spans), strict=True):
            if isinstance(content, bytes):
                yield from zip(span, self._entries_of(span, content), strict=True)
            else:
                yield span.start, content
        for number in count(end):
            yield number, self.load_slot(number)

    def _load_span(self, span: range) -> Slot | bytes:
        if len(span) == 1:
            return self.load_slot(span.start)
        return read_if_there(self._store, checkpoint_key(span.start)) or b""

    def _entries_of(self, span: range, content: bytes) -> Iterable[Slot]:
        try:
            return self.load_checkpoint(span.start, content)
        except DamagedTableError:
            # Only time is lost, and `ensemble table repair` tells it: the entries themselves say the same.
            return self.load_span(span)

    def load_checkpoint(self, first: int, content: bytes | None = None) -> tuple[Entry, ...]:
        """Load the entries that a checkpoint has.

        Args:
            first: Number of the first one.
            content: Its bytes where they have been read; where they are damaged, they are read again.

        Raises:
            DamagedTableError: The checkpoint is missing or damaged.
        """
        for attempts_left in reversed(read_attempts(self._store)):
            if content is None:
                content = read_if_there(self._store, checkpoint_key(first)) or b""
            try:
                entries = checkpoint.decode(first, content, self._shared)
                if len(entries) != CHECKPOINT_ENTRIES:
                    raise ValueError(f"it has {len(entries)} entries, not {CHECKPOINT_ENTRIES}")
                return entries
            except (ValueError, RecursionError) as error:
                if not attempts_left:
                    raise DamagedTableError(
                        f"the checkpoint {self._store.url}/{checkpoint_key(first)} is damaged: "
                        f"{_reason(error)}. Nothing is lost: its entries are read one by one, until "
                        "`ensemble table repair` writes it anew."
                    ) from error
                content = None
        raise AssertionError

    def _side_by_side(
        self, load: Callable[[_Job], _Result], jobs: Iterable[_Job]
    ) -> Iterator[_Result]:
        """Do jobs that wait for the store, in their order; some ahead of what is asked for."""
        jobs = list(jobs)
        if not self._store.is_remote or len(jobs) < _READ_THREADS:
            yield from map(load, jobs)
            return
        # Threads of its own each time: threads that are kept are not there in a process that was forked.
        with ThreadPoolExecutor(_READ_THREADS, "log") as readers:
            waiting = deque[Future[_Result]]()
            for job in jobs:
                waiting.append(readers.submit(load, job))
                if len(waiting) > _READ_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def load_span(self, span: range) -> Iterator[Slot]:
        """Load some entries by their names, whatever a checkpoint says."""
        return self._side_by_side(self.load_slot, span)

    def load_slot(self, number: int) -> Slot:
        """Load one entry, or the error of one that is damaged; None where there is none."""
        try:
            return self._load_if_there(number)
        except DamagedTableError as error:
            return error

    def load(self, number: int) -> Entry:
        """Load one entry.

        Raises:
            DamagedTableError: The entry is missing or damaged.
        """
        entry = self._load_if_there(number)
        if entry is None:
            raise self._removed(number, [])
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
                        "`ensemble table repair` puts it back from a checkpoint, or drops what it "
                        "named, so that the next run computes that again."
                    ) from error
        raise AssertionError

    def _removed(self, number: int, numbers: Sequence[int]) -> DamagedTableError:
        later = next((key(other) for other in numbers if other > number), "nothing")
        return DamagedTableError(
            f"the commit log {self._store.url}/{FOLDER} has {later} where entry {key(number)} belongs; "
            "an entry was removed. `ensemble table repair` puts it back from a checkpoint, or drops what "
            "it named, so that the next run computes that again."
        )


def _spans(firsts: Iterable[int], end: int) -> list[range]:
    """Divide the numbers before an end into those of each checkpoint, and those that are read alone."""
    starts, spans, number = set(firsts), list[range](), 0
    while number < end:
        size = CHECKPOINT_ENTRIES if number in starts else 1
        spans.append(range(number, number + size))
        number += size
    return spans


def _reason(error: Exception) -> str:
    """Word why bytes are not what they should be."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"it is not an entry ({'.'.join(map(repr, first['loc']))}: {first['msg']})"
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
