"""A shard file: one block as an uncompressed Arrow IPC file that says whose it is."""

import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Shaped

from ensemble.errors import DamagedTableError
from ensemble.table.block import LogitBlock
from ensemble.table.commit_log import Dtype

FORMAT = b"ensemble-logits-3"
# At most this much of rows in a file: small enough to read whole, large enough for one request.
MAX_BYTES = 15 << 20
# Bytes of a file that have a digest of their own, so that a slice can be read and checked alone.
PIECE_BYTES = 128 << 10
# Enough to hash faster than files are read; a thread for fewer pieces costs more than it gives.
_HASH_THREADS, _FEWEST_PIECES = min(4, os.cpu_count() or 1), 8
_FLOAT16_MIN = float(np.finfo(np.float16).min)


@dataclass(frozen=True)
class Encoded:
    """A file's bytes, and what a reader needs to check them or a slice of them.

    Attributes:
        data: The bytes.
        pieces: Digest of each piece.
        values_start: Where the rows begin.
    """

    data: memoryview
    pieces: tuple[str, ...]
    values_start: int

    @property
    def sha256(self) -> str:
        """Digest of the pieces' digests: one hash over the bytes serves the file and its slices."""
        return root_digest(self.pieces)


def max_rows(classes: int, dtype: Dtype) -> int:
    """Rows that one file may hold."""
    return max(1, MAX_BYTES // max(1, classes * np.dtype(dtype).itemsize))


def encode(
    block: LogitBlock, identity: Mapping[str, object] | None = None, dtype: Dtype = "float32"
) -> Encoded:
    """A block as a file: a pure function of rows, ids, identity and dtype.

    Args:
        block: At most `max_rows` of them.
        identity: What the column's fingerprint is made of.
        dtype: How numbers are stored; half precision ends at -65,504 nats.
    """
    image_ids = pa.array(block.image_ids.tolist(), pa.string())
    rows = np.ascontiguousarray(block.log_probabilities)
    if dtype == "float16":
        rows = np.maximum(rows, _FLOAT16_MIN).astype(np.float16)
    values = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
    schema = pa.schema(
        [("image_id", pa.string()), ("log_probabilities", values.type)],
        metadata={
            b"format": FORMAT,
            b"column": block.column.encode(),
            b"identity": json.dumps(identity, sort_keys=True).encode(),
        },
    )
    batch = pa.record_batch([image_ids, values], schema=schema)
    # Measured first, then written once into memory of that size: growing a buffer copies it.
    size = _write(batch, pa.MockOutputStream()).size()
    buffer = pa.allocate_buffer(size)
    _write(batch, pa.FixedSizeBufferWriter(buffer))
    data = memoryview(buffer).cast("B")
    return Encoded(data, piece_digests(data), _values_start(data))


def _write(batch: pa.RecordBatch, sink: pa.NativeFile) -> pa.NativeFile:
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink


def piece_digests(data: bytes | memoryview) -> tuple[str, ...]:
    """SHA-256 of each piece, hashed side by side: hashing is what a checked read costs most."""
    content = memoryview(data)
    starts = range(0, len(content), PIECE_BYTES)

    def digests(mine: range) -> list[str]:
        return [sha256(content[at : at + PIECE_BYTES]).hexdigest() for at in mine]

    share = -(-len(starts) // _HASH_THREADS)
    if share < _FEWEST_PIECES:
        return tuple(digests(starts))
    shares = [starts[at : at + share] for at in range(0, len(starts), share)]
    with ThreadPoolExecutor(_HASH_THREADS) as threads:
        return tuple(digest for part in threads.map(digests, shares) for digest in part)


def root_digest(pieces: tuple[str, ...]) -> str:
    """SHA-256 of the pieces' digests, each as 32 bytes."""
    return sha256(bytes.fromhex("".join(pieces))).hexdigest()


def decode(
    data: bytes | memoryview, column: str, name: str
) -> tuple[Shaped[np.ndarray, "image"], Float[np.ndarray, "image class"]]:
    """Image ids and rows of a file, as stored; it must belong to the column.

    Raises:
        DamagedTableError: The bytes are not a shard file, or one of another column.
    """
    try:
        with pa.ipc.open_file(pa.py_buffer(data)) as reader:
            metadata = reader.schema.metadata or {}
            batch = reader.get_batch(0)
    except pa.ArrowInvalid as error:
        raise DamagedTableError(f"the shard {name} is not an Arrow file: {error}.") from error
    found = metadata.get(b"column", b"?").decode()
    if metadata.get(b"format") != FORMAT or found != column:
        raise DamagedTableError(
            f"the shard {name} belongs to column {found}; expected column {column}. `ensemble table "
            "repair` drops it, so that the next run computes it again."
        )
    values = batch.column("log_probabilities")
    rows = values.flatten().to_numpy(zero_copy_only=True).reshape(len(batch), values.type.list_size)
    return np.array(batch.column("image_id").to_pylist(), np.str_), rows


def _values_start(data: bytes | memoryview) -> int:
    buffer = pa.py_buffer(data)
    with pa.ipc.open_file(buffer) as reader:
        values = reader.get_batch(0).column("log_probabilities").flatten().buffers()[1]
    # Arrow keeps no buffer at all for a file without rows.
    return values.address - buffer.address if values is not None and values.size else 0
