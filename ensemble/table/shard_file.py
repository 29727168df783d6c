"""A shard file: one block as an uncompressed Arrow IPC file that names its column."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import pairwise

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from ensemble.errors import DamagedTableError
from ensemble.table import arrow_file
from ensemble.table.block import LogitBlock
from ensemble.table.log_entry import PIECE_BYTES, Dtype

FORMAT = b"ensemble-logits-3"
# At most this much of rows in a file: small enough to read whole, large enough for one request.
MAX_BYTES = 15 << 20
# Most of the time of a checked read is hashing; a thread for fewer pieces costs more than it saves.
_HASH_THREADS, _FEWEST_PIECES = min(4, os.cpu_count() or 1), 8
# Larger buffers are written without a copy; smaller ones are put together.
_SMALL_BYTES = 64 << 10
_DTYPES: dict[int, np.dtype[np.floating]] = {
    arrow_file.SINGLE: np.dtype("<f4"),
    arrow_file.HALF: np.dtype("<f2"),
}
_FLOAT16_MIN = float(np.finfo(np.float16).min)


@dataclass(frozen=True)
class Encoded:
    """The bytes of a shard file, and what a reader needs to check them or a slice of them.

    Attributes:
        parts: Parts of the file, in their order; the rows are those of the block, without a copy.
        values_start: Byte of the file at which the rows begin.
    """

    parts: tuple[memoryview, ...]
    values_start: int

    @property
    def size_bytes(self) -> int:
        """Size of the file."""
        return sum(len(part) for part in self.parts)

    @cached_property
    def pieces(self) -> tuple[str, ...]:
        """SHA-256 of each piece of the file."""
        return piece_digests(self.parts)

    @property
    def sha256(self) -> str:
        """SHA-256 of the pieces' digests, so that the bytes are hashed once for the file and its slices."""
        return root_digest(self.pieces)


def max_rows(classes: int, dtype: Dtype) -> int:
    """Count the rows that one file may hold."""
    return max(1, MAX_BYTES // max(1, classes * np.dtype(dtype).itemsize))


def encode(
    block: LogitBlock, identity: Mapping[str, object] | None = None, dtype: Dtype = "float32"
) -> Encoded:
    """Encode a block as a file: a pure function of rows, ids, identity and dtype.

    Args:
        block: The block, of at most `max_rows` rows.
        identity: Everything that the column's fingerprint is made of.
        dtype: How the numbers are stored; half precision ends at -65,504 nats.
    """
    image_ids = pa.array(block.image_ids.tolist(), pa.string())
    rows = stored_rows(block, dtype)
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
    sink = _Parts()
    with pa.ipc.new_file(pa.PythonFile(sink, mode="w"), schema) as writer:
        writer.write_batch(batch)
    # Arrow keeps no buffer at all for a file without rows.
    address = values.flatten().buffers()[1].address if rows.size else None
    return Encoded(sink.joined(), sink.start_of(address))


def stored_rows(block: LogitBlock, dtype: Dtype) -> Float[np.ndarray, "image class"]:
    """Give the rows of a block as a file has them.

    Args:
        block: The block.
        dtype: How numbers are stored; half precision ends at -65,504 nats.
    """
    rows = np.ascontiguousarray(block.log_probabilities)
    if dtype == "float16":
        return np.maximum(rows, _FLOAT16_MIN).astype(np.float16)
    return rows


class _Parts:
    """A file for Arrow to write to that keeps the parts, so that large buffers are not copied."""

    closed = False

    def __init__(self) -> None:
        self._written: list[bytes | pa.Buffer] = []

    def write(self, part: bytes | pa.Buffer) -> int:
        self._written.append(part)
        return len(part)

    def tell(self) -> int:
        return sum(len(part) for part in self._written)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def start_of(self, address: int | None) -> int:
        """Count the bytes before the buffer at an address in memory; 0 if there is no such buffer."""
        before = 0
        for part in self._written:
            if isinstance(part, pa.Buffer) and part.address == address:
                return before
            before += len(part)
        return 0

    def joined(self) -> tuple[memoryview, ...]:
        """Give all parts, with small neighbours put together."""
        joined: list[memoryview] = []
        small = bytearray()
        for written in self._written:
            part = memoryview(written).cast("B")
            if len(part) < _SMALL_BYTES:
                small += part
                continue
            joined += [memoryview(bytes(small)), part]
            small.clear()
        return tuple(part for part in (*joined, memoryview(bytes(small))) if len(part))


def piece_digests(parts: Sequence[bytes | memoryview]) -> tuple[str, ...]:
    """Compute the SHA-256 of each piece of the joined parts, on several threads."""
    content = [memoryview(part) for part in parts]
    starts = range(0, sum(len(part) for part in content), PIECE_BYTES)

    def digests(starts: range) -> list[str]:
        return [_digest(content, at) for at in starts]

    share = -(-len(starts) // _HASH_THREADS)
    if share < _FEWEST_PIECES:
        return tuple(digests(starts))
    shares = [starts[at : at + share] for at in range(0, len(starts), share)]
    with ThreadPoolExecutor(_HASH_THREADS, "hash") as threads:
        others = [threads.submit(digests, share) for share in shares[1:]]
        # One share is hashed here: handing it over would only take time.
        results = [digests(shares[0]), *(other.result() for other in others)]
    return tuple(digest for result in results for digest in result)


def _digest(parts: Sequence[memoryview], start: int) -> str:
    digest = sha256()
    for overlap in _overlaps(parts, start, start + PIECE_BYTES):
        digest.update(overlap)
    return digest.hexdigest()


def _overlaps(parts: Sequence[memoryview], start: int, stop: int) -> Iterator[memoryview]:
    """Give the slice of each part that lies between two bytes of the joined parts."""
    before = 0
    for part in parts:
        first, last = max(start - before, 0), min(stop - before, len(part))
        if first < last:
            yield part[first:last]
        before += len(part)


def root_digest(pieces: tuple[str, ...]) -> str:
    """Compute the SHA-256 of the pieces' digests, each as 32 bytes."""
    return sha256(bytes.fromhex("".join(pieces))).hexdigest()


def decode(
    data: bytes | memoryview, column: str, name: str, values_start: int | None = None
) -> tuple[tuple[str, ...], Float[np.ndarray, "image class"]]:
    """Decode the image ids and rows of a shard file of a column, as they are stored.

    Args:
        data: Bytes of the file; a stranger may have written them.
        column: The column that the file should belong to.
        name: Name of the file, for messages.
        values_start: Byte of the file at which the rows should begin; None if that is not known.

    Raises:
        DamagedTableError: The bytes are not a shard file, or are one of another column.
    """
    try:
        metadata = arrow_file.read_metadata(data)
        owner = metadata.get(b"column", b"?").decode()
    except ValueError as error:
        raise DamagedTableError(f"the shard {name} is not an Arrow file: {error}.") from error
    if metadata.get(b"format") != FORMAT or owner != column:
        printable = owner.encode("unicode_escape").decode()
        raise DamagedTableError(
            f"the shard {name} belongs to column {printable}; expected column {column}. `ensemble table "
            "repair` drops it, so that the next run computes it again."
        )
    try:
        return _decode(data, values_start)
    except ValueError as error:
        raise DamagedTableError(
            f"the shard {name} is not laid out as a shard file: {error}. `ensemble table repair` drops "
            "it, so that the next run computes it again."
        ) from error


def _decode(
    data: bytes | memoryview, values_start: int | None
) -> tuple[tuple[str, ...], Float[np.ndarray, "image class"]]:
    layout = arrow_file.read_layout(data)
    dtype, classes = _numbers(layout.fields)
    if len(layout.lengths) != 3 or len(layout.buffers) != 6:
        raise ValueError("it has other columns than image ids and log-probabilities")
    num_rows = layout.lengths[0]
    if layout.lengths != (num_rows, num_rows, num_rows * classes) or num_rows < 0:
        raise ValueError(f"its columns have {layout.lengths} values")
    _, offsets, text, _, _, values = layout.buffers
    if values[1] - values[0] < num_rows * classes * dtype.itemsize:
        raise ValueError(f"it ends before {num_rows} rows of {classes} classes do")
    if num_rows * classes and values_start not in (None, values[0]):
        raise ValueError(f"its rows begin at byte {values[0]}; expected {values_start}")
    rows = np.frombuffer(data, dtype, num_rows * classes, values[0])
    rows.flags.writeable = False
    return _ids(data, num_rows, offsets, text), rows.reshape(num_rows, classes)


def _numbers(fields: tuple[arrow_file.Field, ...]) -> tuple[np.dtype[np.floating], int]:
    """Find the type of the numbers, and the number of classes."""
    kinds = [(field.name, field.type, len(field.children)) for field in fields]
    expected = [
        ("image_id", arrow_file.UTF8, 0),
        ("log_probabilities", arrow_file.FIXED_SIZE_LIST, 1),
    ]
    if kinds != expected:
        raise ValueError(f"its fields are {kinds}; expected {expected}")
    item = fields[1].children[0]
    if item.type != arrow_file.FLOATING_POINT or item.parameter not in _DTYPES or item.children:
        raise ValueError("its rows are not of float32 or float16")
    if fields[1].parameter < 0:
        raise ValueError(f"its rows have {fields[1].parameter} classes")
    return _DTYPES[item.parameter], fields[1].parameter


def _ids(
    data: bytes | memoryview, num_rows: int, offsets: tuple[int, int], text: tuple[int, int]
) -> tuple[str, ...]:
    if not num_rows:
        return ()
    if offsets[1] - offsets[0] < 4 * (num_rows + 1):
        raise ValueError("it has fewer image ids than rows")
    places = np.frombuffer(data, "<i4", num_rows + 1, offsets[0])
    if places[0] < 0 or (np.diff(places) < 0).any() or places[-1] > text[1] - text[0]:
        raise ValueError("an image id lies outside the file's text")
    ids = bytes(memoryview(data).cast("B")[text[0] : text[1]])
    ends = places.tolist()
    return tuple(ids[a:b].decode() for a, b in pairwise(ends))
