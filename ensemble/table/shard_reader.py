"""Rows of shard files, whole or a slice, each compared with the log entry that names the file."""

from collections import OrderedDict

import numpy as np
from jaxtyping import Float, Int

from ensemble.errors import DamagedTableError
from ensemble.storage.store import Store, read_attempts
from ensemble.table import shard_file
from ensemble.table.log_entry import PIECE_BYTES, Commit

MAX_SHARDS_HELD = 16


class ShardReader:
    """Reads rows of shards, and keeps the few shards that were read last, never the whole table.

    Args:
        store: Store of the table.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._shards: OrderedDict[str, Float[np.ndarray, "image class"]] = OrderedDict()

    def rows(self, commit: Commit, rows: Int[np.ndarray, "row"]) -> Float[np.ndarray, "row class"]:
        """Read some rows of a shard as they are stored; for a small slice, little else is read.

        Args:
            commit: Log entry of the shard.
            rows: Numbers of the rows in the shard; at least one.

        Raises:
            DamagedTableError: The bytes of the shard are not those that were committed.
        """
        first, last = int(rows.min()), int(rows.max()) + 1
        row_bytes = commit.classes * np.dtype(commit.dtype).itemsize
        begin, end = (commit.values_start + row * row_bytes for row in (first, last))
        pieces = slice(begin // PIECE_BYTES, -(-end // PIECE_BYTES))
        is_slice = 2 * (pieces.stop - pieces.start) <= len(commit.pieces)
        if commit.sha256 in self._shards or not is_slice:
            return self._shard(commit)[as_slice(rows)]
        data = self._load_pieces(commit, pieces)[begin - pieces.start * PIECE_BYTES :]
        slice_rows = np.frombuffer(data[: end - begin], commit.dtype).reshape(-1, commit.classes)
        return slice_rows[as_slice(rows - first)]

    def _shard(self, commit: Commit) -> Float[np.ndarray, "image class"]:
        if commit.sha256 not in self._shards:
            self._shards[commit.sha256] = load_shard(self._store, commit)
            if len(self._shards) > MAX_SHARDS_HELD:
                self._shards.popitem(last=False)
        self._shards.move_to_end(commit.sha256)
        return self._shards[commit.sha256]

    def _load_pieces(self, commit: Commit, pieces: slice) -> bytes:
        begin, end = pieces.start * PIECE_BYTES, pieces.stop * PIECE_BYTES
        for _ in read_attempts(self._store):
            data = self._store.read_range(commit.path, begin, min(end, commit.size_bytes))
            if shard_file.piece_digests([data]) == commit.pieces[pieces]:
                return data
        name = f"{self._store.url}/{commit.path}"
        reason = f"pieces {pieces.start} to {pieces.stop - 1} are not the committed ones"
        raise _damaged(name, commit, reason)


def load_shard(store: Store, commit: Commit) -> Float[np.ndarray, "image class"]:
    """Read all rows of a shard as they are stored.

    Raises:
        DamagedTableError: The bytes or the images of the shard are not those that were committed.
    """
    return decode(read_bytes(store, commit), commit, f"{store.url}/{commit.path}")


def decode(data: memoryview, commit: Commit, name: str) -> Float[np.ndarray, "image class"]:
    """Decode all rows of a shard as they are stored.

    Raises:
        DamagedTableError: The bytes are no shard file, or one of something else than the entry says.
    """
    image_ids, rows = shard_file.decode(data, commit.column, name, commit.values_start)
    if image_ids != commit.image_ids:
        raise _damaged(name, commit, "its images are not those of its log entry")
    if rows.shape != (commit.rows, commit.classes) or rows.dtype != np.dtype(commit.dtype):
        raise _damaged(
            name,
            commit,
            f"its rows are {rows.shape} of {rows.dtype}; its log entry says "
            f"{(commit.rows, commit.classes)} of {commit.dtype}",
        )
    return rows


def read_bytes(store: Store, commit: Commit) -> memoryview:
    """Read the bytes of a shard.

    Raises:
        DamagedTableError: They are not the bytes that were committed.
    """
    for _ in read_attempts(store):
        data = store.read_large(commit.path)
        pieces = shard_file.piece_digests([data])
        if pieces == commit.pieces and shard_file.root_digest(pieces) == commit.sha256:
            return data
    reason = f"its sha256 is not the committed {commit.sha256[:16]}…"
    raise _damaged(f"{store.url}/{commit.path}", commit, reason)


def _damaged(name: str, commit: Commit, reason: str) -> DamagedTableError:
    return DamagedTableError(
        f"the shard {name} ({commit.name}) is damaged: {reason}. `ensemble table repair` drops it, so "
        "that the next run computes it again, and nothing else."
    )


def as_slice(rows: Int[np.ndarray, "row"]) -> slice | Int[np.ndarray, "row"]:
    """Turn row numbers that follow one another into a slice, which spares a copy."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows
