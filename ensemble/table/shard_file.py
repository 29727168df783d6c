"""A shard file: one block as an uncompressed Arrow IPC file that says whose it is."""

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Shaped

from ensemble.errors import TableError
from ensemble.table.block import LogitBlock

FORMAT = b"ensemble-logits-1"


def encode(block: LogitBlock) -> bytes:
    """A block as the bytes of its file: a pure function of rows, ids and column."""
    image_ids = pa.array(block.image_ids.tolist(), pa.string())
    rows = np.ascontiguousarray(block.log_probabilities)
    values = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
    schema = pa.schema(
        [("image_id", pa.string()), ("log_probabilities", values.type)],
        metadata={b"format": FORMAT, b"column": block.column.encode()},
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch([image_ids, values], schema=schema))
    data: bytes = sink.getvalue().to_pybytes()
    return data


def decode(
    data: bytes, column: str, name: str
) -> tuple[Shaped[np.ndarray, "image"], Float32[np.ndarray, "image class"]]:
    """Image ids and rows of a file, which must belong to the column.

    Raises:
        TableError: The bytes are not a shard file, or one of another column.
    """
    try:
        with pa.ipc.open_file(pa.py_buffer(data)) as reader:
            metadata = reader.schema.metadata or {}
            batch = reader.get_batch(0)
    except pa.ArrowInvalid as error:
        raise TableError(f"the shard {name} is not an Arrow file: {error}.") from error
    found = metadata.get(b"column", b"?").decode()
    if metadata.get(b"format") != FORMAT or found != column:
        raise TableError(f"the shard {name} belongs to column {found}; expected column {column}.")
    values = batch.column("log_probabilities")
    rows = values.flatten().to_numpy(zero_copy_only=True).reshape(len(batch), values.type.list_size)
    return np.array(batch.column("image_id").to_pylist(), np.str_), rows
