"""The durable logit table: blocks are committed once, and rows are read by image id."""

import secrets
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Shaped

from ensemble.errors import IncompleteTableError
from ensemble.images.shard import BadImage
from ensemble.storage.local_store import LocalStore
from ensemble.storage.settings import S3Config
from ensemble.storage.store import Staged, Store
from ensemble.table import shard_file, shard_reader
from ensemble.table.block import LogitBlock
from ensemble.table.checkpoint_writer import CheckpointWriter
from ensemble.table.commit_log import CommitLog
from ensemble.table.image_numbers import NO_ROW, ColumnRows, ImageNumbers
from ensemble.table.lease import Lease
from ensemble.table.log_entry import (
    LONE_VERSION,
    MOST_GROUP_ROWS,
    Commit,
    Dtype,
    Fence,
    Group,
)
from ensemble.table.shard_reader import ShardReader, as_slice
from ensemble.table.shard_writer import (
    Computation,
    Receipt,
    ShardWriter,
    describe,
    parts_of,
    read_block,
)


class LogitTable:
    """Log-probabilities `[member, image, class]` as columns of blocks in one place.

    A column is one member's computation (see `Member.column`), so a renamed member finds its rows
    and a changed one does not. A block counts once its file and its log entry are durable. Opening
    reads the log alone, most of it from checkpoints; bytes of shards are checked whenever they are read.

    Args:
        place: A folder or a store.
        dtype: How the numbers of new blocks are stored.
        lease: Lease under which blocks are committed; none where no other driver can be writing.
    """

    def __init__(
        self, place: Path | Store, dtype: Dtype = "float32", lease: Lease | None = None
    ) -> None:
        self._store: Store = LocalStore(place) if isinstance(place, Path) else place
        self._dtype = dtype
        self._lease = lease
        self._log = CommitLog(self._store, lease.number if lease else 0)
        self._checkpoints = CheckpointWriter(self._store)
        self._columns: dict[str, ColumnRows] = {}
        self._numbers = ImageNumbers()
        self._shards = ShardReader(self._store)
        self._retries_of_workers = 0
        for _, commit in self._log.read():
            self._register(commit)

    @property
    def root(self) -> str:
        """URL or path of the table."""
        return self._store.url

    @property
    def retries(self) -> int:
        """Number of requests to the store that were made again, here and by workers."""
        return self._store.retries + self._retries_of_workers

    @property
    def is_remote(self) -> bool:
        """Whether the table is on S3, and so within reach of other machines."""
        return self._store.is_remote

    def writer(self, storage: S3Config) -> ShardWriter:
        """Begin the log if there is none, and give what workers write shards with, for `count`.

        Shards of several workers without any log would look like a table whose log was lost.

        Args:
            storage: How S3 is reached.

        Raises:
            TableBusyError: Another driver is writing, or took the table over.
        """
        if not self._log.next_number:
            fence = Fence(writer=self._log.writer, reason="workers begin to write")
            for other in self._log.append(fence):
                self._register(other)
        place = self.root if self.is_remote else str(Path(self.root).absolute())
        return ShardWriter(place, storage, self._dtype)

    def commit(self, member: Computation, block: LogitBlock) -> None:
        """Make a block durable, then count it. Rows that are there already are left out.

        Raises:
            TableBusyError: Another driver is writing, or took the table over.
        """
        image_ids = [*block.image_ids.tolist(), *(bad.image_id for bad in block.bad)]
        if not image_ids:
            return
        if not self._has_none(block.column, image_ids):
            missing = frozenset(self.missing(block.column, image_ids))
            if not missing:
                return
            block = block.only(missing)
        for part in parts_of(block, self._dtype):
            self._commit(member, part)

    def _commit(self, member: Computation, block: LogitBlock) -> None:
        if self._lease is not None:
            self._lease.check()
        file = shard_file.encode(block, member.identity, self._dtype)
        # The file is written and synced while it is hashed and while its entry is.
        with _staging(self._store, file.parts) as staging:
            entry = describe(member, block, file, self._dtype, self._log.writer)
            self._append(entry, file.parts, staging)

    def count(self, arrivals: Sequence[tuple[Computation, Receipt]]) -> None:
        """Count shards that workers have made durable: all of them at once, by one log entry.

        Rows that are there already are left out; if there are any, there are more entries.

        Args:
            arrivals: What workers handed over, each with the computation that it is of.

        Raises:
            DamagedTableError: Some rows are there already, and a shard is not as it was written.
            TableBusyError: Another driver is writing, or took the table over.
        """
        group: list[Commit] = []
        cells_of_group: set[tuple[str, str]] = set()
        for member, receipt in arrivals:
            self._retries_of_workers += receipt.retries
            for commit in receipt.commits:
                image_ids = [*commit.image_ids, *(bad.image_id for bad in commit.bad)]
                cells = {(commit.column, image_id) for image_id in image_ids}
                if len(cells_of_group) + len(cells) > MOST_GROUP_ROWS:
                    self._count(group)
                    group, cells_of_group = [], set()
                if cells_of_group.isdisjoint(cells) and self._has_none(commit.column, image_ids):
                    group.append(commit)
                    cells_of_group |= cells
                    continue
                # Seldom: the shard is read and cut. Its file is left to `ensemble table gc`.
                self._count(group)
                group, cells_of_group = [], set()
                self.commit(member, read_block(self._store, commit))
        self._count(group)

    def _count(self, commits: Sequence[Commit]) -> None:
        if not commits:
            return
        if self._lease is not None:
            self._lease.check()
        writer = self._log.writer
        own = tuple(commit.model_copy(update={"writer": writer}) for commit in commits)
        entry = own[0] if len(own) == 1 else Group(writer=writer, commits=own)
        for other in self._log.append(entry):
            self._register(other)
        for commit in own:
            self._register(self._log.shared.share(commit))
        self._checkpoints.extend_to(self._log.next_number)

    def adopt(self, member: Computation, commit: Commit, source: Store) -> bool:
        """Copy a shard of another table as it is, and tell whether it was copied.

        It is not where this table has rows of it already, or stores numbers in another way.

        Raises:
            DamagedTableError: The bytes of the shard are not those that were committed.
            TableBusyError: Another driver is writing this table, or took it over.
        """
        image_ids = [*commit.image_ids, *(bad.image_id for bad in commit.bad)]
        is_new = self._has_none(commit.column, image_ids)
        is_fit = (commit.column, commit.dtype) == (member.column, self._dtype)
        if not image_ids or not is_new or not is_fit:
            return False
        data = shard_reader.read_bytes(source, commit)
        shard_reader.decode(data, commit, f"{source.url}/{commit.path}")
        if self._lease is not None:
            self._lease.check()
        entry = commit.model_copy(
            update={
                "version": LONE_VERSION,
                "writer": self._log.writer,
                "attempt": secrets.token_hex(8),
                "name": member.name,
            }
        )
        with _staging(self._store, [data]) as staging:
            self._append(entry, [data], staging)
        return True

    def _append(
        self, commit: Commit, parts: Sequence[bytes | memoryview], staging: Future[Staged]
    ) -> None:
        def publish() -> None:
            if not staging.result().publish(commit.path):
                # A name is made of the bytes, so whatever else is there is damaged.
                self._store.replace(commit.path, b"".join(parts))

        for other in self._log.append(commit, publish):
            self._register(other)
        self._register(self._log.shared.share(commit))
        self._checkpoints.extend_to(self._log.next_number)

    def finish(self) -> None:
        """Wait for what is written beside the commits; without it nothing is lost but time of later readers."""
        self._checkpoints.wait()

    def missing(self, column: str, image_ids: Iterable[str]) -> tuple[str, ...]:
        """List the images that a column has neither a row nor a reason for, in the order of `image_ids`.

        This is the work list of a first run, of a retry and of a resumed run alike.
        """
        rows = self._columns.get(column)
        if rows is None:
            return tuple(map(str, image_ids))
        ids = image_ids if isinstance(image_ids, tuple) else tuple(map(str, image_ids))
        lacking = np.flatnonzero(rows.rows(self._numbers.of(ids)) == NO_ROW).tolist()
        if not lacking:
            return ()
        return tuple(str(ids[n]) for n in lacking if ids[n] not in rows.bad_by_id)

    def _has_none(self, column: str, image_ids: Sequence[str]) -> bool:
        """Tell whether all of some images are missing, in a fraction of the time that listing them takes."""
        rows = self._columns.get(column)
        return rows is None or (
            bool((rows.rows(self._numbers.of(image_ids)) == NO_ROW).all())
            and rows.bad_by_id.keys().isdisjoint(image_ids)
        )

    def bad_images(self, columns: Iterable[str]) -> tuple[BadImage, ...]:
        """List the images that any of some columns has a reason for instead of a row, sorted by id."""
        bad = {
            image_id: image
            for column in columns
            if column in self._columns
            for image_id, image in self._columns[column].bad_by_id.items()
        }
        return tuple(bad[image_id] for image_id in sorted(bad))

    def read(
        self, column: str, image_ids: Sequence[str] | Shaped[np.ndarray, "image"]
    ) -> Float32[np.ndarray, "image class"]:
        """Read the rows of some images, in the order of `image_ids`; the array may be read-only.

        Raises:
            IncompleteTableError: An image has no row.
            DamagedTableError: The bytes of a shard are not those that were committed.
        """
        rows = self._columns.get(column)
        if rows is None:
            raise IncompleteTableError(f"the table {self.root} has no column {column}.")
        places = rows.rows(self._numbers.of(image_ids))
        if (places == NO_ROW).any():
            lacking = str(image_ids[int((places == NO_ROW).argmax())])
            raise IncompleteTableError(
                f"column {column} has no row of image {lacking!r}; expected one of each of "
                f"{len(image_ids)} images. Run again to compute what is missing."
            )
        starts = np.array(rows.starts)
        shard = np.searchsorted(starts, places, side="right") - 1
        row = places - starts[shard]
        if len(places) and (shard == shard[0]).all():
            # Often a block is read as it was committed: its rows need no copy.
            return self._shards.rows(rows.commits[int(shard[0])], row).astype(
                np.float32, copy=False
            )
        out = np.empty((len(places), rows.commits[0].classes), np.float32)
        for number in np.unique(shard):
            here = np.flatnonzero(shard == number)
            out[as_slice(here)] = self._shards.rows(rows.commits[number], row[here])
        return out

    def commits(self) -> tuple[Commit, ...]:
        """List all commits, column by column."""
        return tuple(commit for rows in self._columns.values() for commit in rows.commits)

    def _register(self, commit: Commit) -> None:
        if commit.column not in self._columns:
            self._columns[commit.column] = ColumnRows()
        self._columns[commit.column].add(commit, self._numbers.add(commit.image_ids))


@contextmanager
def _staging(store: Store, parts: Sequence[bytes | memoryview]) -> Iterator[Future[Staged]]:
    # A thread of its own each time: threads that are kept are not there in a process that was forked.
    with ThreadPoolExecutor(1, "stage") as writer:
        staging = writer.submit(store.stage, parts)
        try:
            yield staging
        finally:
            if staging.exception() is None:
                with staging.result():
                    pass
