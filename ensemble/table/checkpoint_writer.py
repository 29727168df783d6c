"""Writing checkpoints of the log: by whoever commits, beside it and never in its way."""

import threading
from contextlib import suppress

from ensemble.errors import DamagedTableError, TableError
from ensemble.storage.store import Store
from ensemble.table import checkpoint
from ensemble.table.image_numbers import SharedValues
from ensemble.table.log_entry import Entry
from ensemble.table.log_names import (
    CHECKPOINT_ENTRIES,
    FOLDER,
    checkpoint_key,
    checkpoint_starts,
)
from ensemble.table.log_reader import LogReader


class CheckpointWriter:
    """Writes the checkpoints that a growing log lacks, in a thread of its own.

    Args:
        store: Store of the table.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known = 0
        self._thread: threading.Thread | None = None

    def extend_to(self, end: int) -> None:
        """Begin to write what is lacking, where the log has come past the end of a checkpoint.

        Args:
            end: Number of entries of the log, all of which are durable.
        """
        full = end - end % CHECKPOINT_ENTRIES
        if full <= self._known or (self._thread is not None and self._thread.is_alive()):
            return
        self._known = full
        # The process need not wait for it at its end: the next writer makes the same checkpoints.
        self._thread = threading.Thread(
            target=self._write, args=(full,), name="checkpoint", daemon=True
        )
        self._thread.start()

    def wait(self) -> None:
        """Wait until what was begun is written."""
        if self._thread is not None:
            self._thread.join()

    def _write(self, end: int) -> None:
        # What cannot be written now costs the next reader time, and the next writer tries again. At the
        # end of the process there are no new threads to read with, which is a RuntimeError.
        with suppress(TableError, RuntimeError):
            write_checkpoints(self._store, end)


def write_checkpoints(store: Store, end: int) -> tuple[int, ...]:
    """Write the checkpoints that a log lacks; one that is there stays as it is.

    Args:
        store: Store of the table.
        end: Number of entries to write checkpoints of; those after the last full checkpoint have none.

    Returns:
        Numbers of the first entries of those that were written.

    Raises:
        TableError: The log cannot be read or written now.
    """
    there = set(checkpoint_starts(list(store.keys(FOLDER))))
    written = []
    for first in range(0, end - CHECKPOINT_ENTRIES + 1, CHECKPOINT_ENTRIES):
        if first in there:
            continue
        data = encode_from_entries(store, first)
        if data is not None and store.create(checkpoint_key(first), data):
            written.append(first)
    return tuple(written)


def encode_from_entries(store: Store, first: int) -> bytes | None:
    """Make the bytes of a checkpoint from its entries; None where one of them is missing or damaged.

    Args:
        store: Store of the table.
        first: Number of its first entry.

    Raises:
        TableError: An entry cannot be read now.
    """
    # Without a share in what is equal, the identities of 1,000 classes alone are 40 KB a commit.
    entries, shared = list[Entry](), SharedValues()
    for slot in LogReader(store).load_span(range(first, first + CHECKPOINT_ENTRIES)):
        if slot is None or isinstance(slot, DamagedTableError):
            return None
        entries.append(shared.share_entry(slot))
    return checkpoint.encode(first, entries)
