"""A shard file: one block as an uncompressed Arrow IPC file that says whose it is."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Shaped

from ensemble.errors import DamagedTableError
from ensemble.table.block import LogitBlock
from ensemble.table.commit_log import Dtype

FORMAT = b"ensemble-logits-2"
# At most this much of rows in a file: small enough to read whole, large enough for one request.
MAX_BYTES = 15 << 20
PIECE_BYTES = 64 << 10
_FLOAT16_MIN = float(np.finfo(np.float16).min)


@dataclass(frozen=True)
class Encoded:
    """A file's bytes, and what a reader needs to check a slice of them.

    Attributes:
        data: The bytes.
        sha256: Of them.
        values_start: Where the rows begin.
        piece_rows: Rows of a piece.
        pieces: Digest of each piece.
    """

    data: bytes
    sha256: str
    values_start: int
    piece_rows: int
    pieces: tuple[str, ...]


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
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch([image_ids, values], schema=schema))
    data: bytes = sink.getvalue().to_pybytes()
    row_bytes = max(1, rows.shape[1] * rows.itemsize)
    piece_rows = max(1, PIECE_BYTES // row_bytes)
    start = _values_start(data)
    content = memoryview(data)[start : start + rows.nbytes]
    return Encoded(
        data,
        sha256(data).hexdigest(),
        start,
        piece_rows,
        tuple(
            piece_digest(content[at : at + piece_rows * row_bytes])
            for at in range(0, rows.nbytes, piece_rows * row_bytes)
        ),
    )


def piece_digest(content: bytes | memoryview) -> str:
    """What a piece's bytes are checked with."""
    return sha256(content).hexdigest()[:32]


def decode(
    data: bytes, column: str, name: str
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


def _values_start(data: bytes) -> int:
    buffer = pa.py_buffer(data)
    with pa.ipc.open_file(buffer) as reader:
        values = reader.get_batch(0).column("log_probabilities").flatten().buffers()[1]
    # Arrow keeps no buffer at all for a file without rows.
    return values.address - buffer.address if values is not None and values.size else 0
