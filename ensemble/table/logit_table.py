"""The durable logit table: blocks go in once, rows come out by image id."""

import socket
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Shaped

from ensemble.errors import IncompleteTableError, TableError
from ensemble.images.shard import BadImage
from ensemble.members import Member
from ensemble.table import shard_file
from ensemble.table.block import LogitBlock
from ensemble.table.commit_log import BadImageEntry, Commit, CommitLog
from ensemble.table.store import LocalStore

MAX_SHARDS_HELD = 32


@dataclass(frozen=True)
class _Rows:
    """Where a column's rows are: for each image id, which shard and which of its rows."""

    commits: list[Commit]
    place_by_id: dict[str, tuple[int, int]]
    bad_by_id: dict[str, BadImage]


class LogitTable:
    """Log-probabilities `[member, image, class]` as columns of blocks below one folder.

    A column is one member's computation (see `Member.column`), so a renamed member finds its rows
    and a changed one does not. A block counts once its file and its log entry are on disk.
    """

    def __init__(self, root: Path) -> None:
        self._store = LocalStore(root)
        self._log = CommitLog(self._store)
        self._columns: dict[str, _Rows] = {}
        self._shards: OrderedDict[str, Float32[np.ndarray, "image class"]] = OrderedDict()
        for commit in self._log.read():
            self._register(commit, self._load(commit)[0])

    @property
    def root(self) -> Path:
        """The table's folder."""
        return self._store.root

    def commit(self, member: Member, block: LogitBlock) -> None:
        """Make a block durable, then count it. Rows that are there already are left out."""
        everything = [*block.image_ids, *(bad.image_id for bad in block.bad)]
        missing = frozenset(self.missing(block.column, everything))
        if not missing:
            return
        block = block.only(missing)
        data = shard_file.encode(block)
        digest = sha256(data).hexdigest()
        key = f"columns/{block.column}/{digest[:16]}.arrow"
        if not self._store.create(key, data) and self._store.read(key) != data:
            raise TableError(f"the file {self.root / key} is not what its name says; remove it.")
        commit = Commit(
            column=block.column,
            name=member.name,
            identity=member.identity,
            path=key,
            sha256=digest,
            rows=len(block.image_ids),
            bad=tuple(BadImageEntry(image_id=b.image_id, reason=b.reason) for b in block.bad),
            forward_passes=block.forward_passes,
            seconds=block.seconds,
            host=socket.gethostname(),
            committed_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self._log.append(commit)
        self._register(commit, block.image_ids)

    def missing(self, column: str, image_ids: Iterable[str]) -> tuple[str, ...]:
        """The images that a column has neither a row nor a reason for, in the order given.

        The work list of a first run, of a retry and of a resume alike.
        """
        rows = self._columns.get(column)
        if rows is None:
            return tuple(str(image_id) for image_id in image_ids)
        return tuple(
            str(image_id)
            for image_id in image_ids
            if image_id not in rows.place_by_id and image_id not in rows.bad_by_id
        )

    def bad_images(self, columns: Iterable[str]) -> tuple[BadImage, ...]:
        """Images without a row in any of some columns, by id."""
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
        """Rows of some images, in the order asked for.

        Raises:
            IncompleteTableError: An image has no row.
        """
        rows = self._columns.get(column)
        try:
            places = [rows.place_by_id[str(i)] for i in image_ids] if rows else []
        except KeyError as error:
            raise IncompleteTableError(
                f"column {column} has no row of image {error}; expected one of each of "
                f"{len(image_ids)} images. Run again to compute what is missing."
            ) from error
        if rows is None:
            raise IncompleteTableError(f"the table {self.root} has no column {column}.")
        shard, row = np.array(places, dtype=np.int64).reshape(-1, 2).T
        out = np.empty((len(places), self._shard(rows.commits[0]).shape[1]), np.float32)
        for number in np.unique(shard):
            here = shard == number
            out[here] = self._shard(rows.commits[number])[row[here]]
        return out

    def commits(self) -> tuple[Commit, ...]:
        """All commits, column by column."""
        return tuple(commit for rows in self._columns.values() for commit in rows.commits)

    def _shard(self, commit: Commit) -> Float32[np.ndarray, "image class"]:
        """Rows of a shard, checked; the few used last are kept, never the whole table."""
        if commit.sha256 not in self._shards:
            self._shards[commit.sha256] = self._load(commit)[1]
            if len(self._shards) > MAX_SHARDS_HELD:
                self._shards.popitem(last=False)
        self._shards.move_to_end(commit.sha256)
        return self._shards[commit.sha256]

    def _load(
        self, commit: Commit
    ) -> tuple[Shaped[np.ndarray, "image"], Float32[np.ndarray, "image class"]]:
        data = self._store.read(commit.path)
        name = str(self.root / commit.path)
        if sha256(data).hexdigest() != commit.sha256:
            raise TableError(
                f"the shard {name} ({commit.name}) is damaged: its sha256 is not the committed "
                f"{commit.sha256[:16]}…. Delete the table's folder {self.root} to compute it anew."
            )
        return shard_file.decode(data, commit.column, name)

    def _register(self, commit: Commit, image_ids: Shaped[np.ndarray, "image"]) -> None:
        column = self._columns.setdefault(commit.column, _Rows([], {}, {}))
        number = len(column.commits)
        column.commits.append(commit)
        for row, image_id in enumerate(image_ids):
            column.place_by_id.setdefault(str(image_id), (number, row))
        for bad in commit.bad:
            column.bad_by_id[bad.image_id] = BadImage(bad.image_id, bad.reason)
