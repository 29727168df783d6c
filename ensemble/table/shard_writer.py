"""Writing shards: a block becomes durable files, each with the log entry that would count it.

A worker writes under the name that the bytes give, so that a call made again writes the same file. No
shard counts before the driver has put its entry into the log: see `LogitTable.count`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np

from ensemble.images.shard import BadImage
from ensemble.storage.open import open_store
from ensemble.storage.settings import S3Config
from ensemble.storage.store import Store
from ensemble.table import shard_file
from ensemble.table.block import LogitBlock
from ensemble.table.log_entry import BadImageEntry, Commit, Dtype
from ensemble.table.shard_reader import load_shard


@runtime_checkable
class Computation(Protocol):
    """The computation behind a column: that of a `Member`, or of imported predictions."""

    @property
    def name(self) -> str:
        """Name of the member."""

    @property
    def column(self) -> str:
        """Identity of the column."""

    @property
    def identity(self) -> Mapping[str, object]:
        """Everything that the column's fingerprint is made of."""


@dataclass(frozen=True)
class Receipt:
    """What a worker hands to the driver instead of the rows of a block.

    Attributes:
        commits: An entry for each file, which is durable and does not count yet.
        retries: Number of requests to the store that were made again.
    """

    commits: tuple[Commit, ...]
    retries: int = 0

    @property
    def forward_passes(self) -> int:
        """Number of forward passes of the block."""
        return sum(commit.forward_passes for commit in self.commits)

    @property
    def seconds(self) -> float:
        """Time that the forward passes took."""
        return sum(commit.seconds for commit in self.commits)


@dataclass(frozen=True)
class ShardWriter:
    """Writes shards of a table from any process that reaches its place; it is sent to workers.

    Attributes:
        place: Absolute path of the table's folder, or s3://bucket/prefix.
        storage: How S3 is reached.
        dtype: How numbers are stored.
    """

    place: str
    storage: S3Config
    dtype: Dtype

    def write(self, computation: Computation, block: LogitBlock) -> Receipt:
        """Make a block durable; it counts once the driver has counted it.

        Args:
            computation: The computation that the block is of.
            block: The block.

        Raises:
            TableError: The place cannot be written.
        """
        if not len(block.image_ids) and not block.bad:
            return Receipt(())
        store = _store_at(self.place, self.storage)
        retries = store.retries
        commits = tuple(
            _write(store, computation, part, self.dtype) for part in parts_of(block, self.dtype)
        )
        return Receipt(commits, store.retries - retries)


@lru_cache(maxsize=1)
def _store_at(place: str, storage: S3Config) -> Store:
    # Kept by the process: connecting to S3 takes longer than writing a shard.
    return open_store(place, storage)


def _write(store: Store, computation: Computation, block: LogitBlock, dtype: Dtype) -> Commit:
    file = shard_file.encode(block, computation.identity, dtype)
    commit = describe(computation, block, file, dtype)
    with store.stage(file.parts) as staged:
        is_ours = staged.publish(commit.path)
    if not is_ours:
        # A name is made of the bytes, so whatever else is there is damaged.
        store.replace(commit.path, b"".join(file.parts))
    store.sync([commit.path])
    return commit


def describe(
    computation: Computation,
    block: LogitBlock,
    file: shard_file.Encoded,
    dtype: Dtype,
    writer: int = 0,
) -> Commit:
    """Make the log entry of a shard.

    Args:
        computation: The computation that the block is of.
        block: The block.
        file: The block as a file.
        dtype: How its numbers are stored.
        writer: Number of the lease under which the entry counts; the driver fills it in for workers.
    """
    return Commit(
        writer=writer,
        column=block.column,
        name=computation.name,
        identity=dict(computation.identity),
        path=f"columns/{block.column}/{file.sha256[:16]}.arrow",
        sha256=file.sha256,
        size_bytes=file.size_bytes,
        dtype=dtype,
        image_ids=tuple(block.image_ids.tolist()),
        classes=block.log_probabilities.shape[1],
        values_start=file.values_start,
        pieces=file.pieces,
        bad=tuple(BadImageEntry(image_id=b.image_id, reason=b.reason) for b in block.bad),
        forward_passes=block.forward_passes,
        seconds=block.seconds,
        flops_per_image=block.flops_per_image,
        gpu_bytes=block.gpu_bytes,
        device_kind=block.device_kind,
    )


def read_block(store: Store, commit: Commit) -> LogitBlock:
    """Read a shard back as the block that it was written from.

    Raises:
        DamagedTableError: The bytes of the shard are not those that were written.
    """
    return LogitBlock(
        column=commit.column,
        image_ids=np.array(commit.image_ids, dtype=str),
        log_probabilities=load_shard(store, commit).astype(np.float32, copy=False),
        bad=tuple(BadImage(bad.image_id, bad.reason) for bad in commit.bad),
        seconds=commit.seconds,
        forward_passes=commit.forward_passes,
        flops_per_image=commit.flops_per_image,
        gpu_bytes=commit.gpu_bytes,
        device_kind=commit.device_kind,
    )


def parts_of(block: LogitBlock, dtype: Dtype) -> Iterator[LogitBlock]:
    """Divide a block into parts that fit a file; the cost and the bad images go with the first."""
    step = shard_file.max_rows(block.log_probabilities.shape[1], dtype)
    yield replace(
        block,
        image_ids=block.image_ids[:step],
        log_probabilities=block.log_probabilities[:step],
    )
    for start in range(step, len(block.image_ids), step):
        yield replace(
            block,
            image_ids=block.image_ids[start : start + step],
            log_probabilities=block.log_probabilities[start : start + step],
            bad=(),
            seconds=0.0,
            forward_passes=0,
        )
