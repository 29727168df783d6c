"""The layout of an Arrow IPC file of strangers, read with every offset checked and no code of Arrow's.

Arrow's own reader trusts the metadata of a file: made-up offsets end its process, and no error can be
caught. This reader knows what shard files and checkpoints of the log need: one uncompressed record
batch without nulls.
Source: Schema.fbs, Message.fbs and File.fbs of the Arrow format, and the binary format of FlatBuffers.
"""

import struct
from dataclasses import dataclass

MAGIC = b"ARROW1"
_FOOTER_END = struct.calcsize("<i") + len(MAGIC)
_CONTINUATION = 0xFFFFFFFF
_RECORD_BATCH = 3
_LITTLE_ENDIAN = 0
# Far more fields, buffers or keys than our files have; a longer list would only cost memory.
_MOST_ITEMS = 100

INTEGER, FLOATING_POINT, UTF8, LIST, FIXED_SIZE_BINARY, FIXED_SIZE_LIST = 2, 3, 5, 12, 15, 16
HALF, SINGLE, DOUBLE = 0, 1, 2
_PARAMETER_FORMS = {INTEGER: "i", FLOATING_POINT: "h", FIXED_SIZE_BINARY: "i", FIXED_SIZE_LIST: "i"}


@dataclass(frozen=True)
class Field:
    """One field of a schema.

    Attributes:
        name: Name of the field.
        type: Number of its type in the Arrow format.
        parameter: Length of a fixed-size list, bytes of a fixed-size value, bits of an integer, or precision
            of floating-point numbers; 0 otherwise.
        children: Fields inside it.
    """

    name: str
    type: int
    parameter: int
    children: tuple["Field", ...]


@dataclass(frozen=True)
class Layout:
    """Places of everything in a file with one record batch.

    Attributes:
        metadata: Custom metadata of the schema.
        fields: Fields of the schema.
        lengths: Number of values of each field, parents before their children.
        buffers: First byte and end of each buffer, in the order of the fields; all lie in the file.
    """

    metadata: dict[bytes, bytes]
    fields: tuple[Field, ...]
    lengths: tuple[int, ...]
    buffers: tuple[tuple[int, int], ...]


def read_metadata(data: bytes | memoryview) -> dict[bytes, bytes]:
    """Read the custom metadata of a file's schema.

    Raises:
        ValueError: The bytes are no Arrow file.
    """
    return _metadata(_footer(_Bytes(data)).table(1))


def read_layout(data: bytes | memoryview) -> Layout:
    """Find where everything lies in a file.

    Raises:
        ValueError: The bytes are no Arrow file, or one of another form than a shard's.
    """
    content = _Bytes(data)
    footer = _footer(content)
    schema = footer.table(1)
    if schema.number("h", 0) != _LITTLE_ENDIAN:
        raise ValueError("its numbers are not little-endian")
    blocks = footer.structs(3, "<qi4xq")
    if len(blocks) != 1 or footer.structs(2, "<qi4xq"):
        raise ValueError(
            f"it has {len(blocks)} record batches, or dictionaries; expected one batch"
        )
    start, header_bytes, body_bytes = blocks[0]
    body = start + header_bytes
    content.check(start, body + body_bytes)
    batch = _record_batch(content, start)
    nodes = batch.structs(1, "<qq")
    if any(nulls for _, nulls in nodes):
        raise ValueError("it has nulls")
    buffers = []
    for offset, size in batch.structs(2, "<qq"):
        if not 0 <= offset <= offset + size <= body_bytes:
            raise ValueError("a buffer lies outside its record batch")
        buffers.append((body + offset, body + offset + size))
    return Layout(
        metadata=_metadata(schema),
        fields=tuple(_field(table, depth=2) for table in schema.tables(1)),
        lengths=tuple(length for length, _ in nodes),
        buffers=tuple(buffers),
    )


def _footer(content: "_Bytes") -> "_Table":
    end = content.size - _FOOTER_END
    if content.part(0, len(MAGIC)) != MAGIC or content.part(end + 4, content.size) != MAGIC:
        raise ValueError(f"it does not begin and end with {MAGIC.decode()}")
    (size,) = content.unpack("<i", end)
    return content.root(end - size)


def _record_batch(content: "_Bytes", start: int) -> "_Table":
    marker, _ = content.unpack("<Ii", start)
    message = content.root(start + 8)
    if marker != _CONTINUATION or message.number("B", 1) != _RECORD_BATCH:
        raise ValueError("its block is no record batch")
    batch = message.table(2)
    if batch.place(3) is not None:
        raise ValueError("it is compressed")
    return batch


def _metadata(schema: "_Table") -> dict[bytes, bytes]:
    return {pair.string(0): pair.string(1) for pair in schema.tables(2)}


def _field(table: "_Table", depth: int) -> Field:
    kind = table.number("B", 2)
    parameter = 0
    if form := _PARAMETER_FORMS.get(kind):
        parameter = table.table(3).number(form, 0)
    children = table.tables(5)
    if table.place(4) is not None or (children and not depth):
        raise ValueError("a field is encoded by a dictionary, or nested too deeply")
    return Field(
        table.string(0).decode(),
        kind,
        parameter,
        tuple(_field(each, depth - 1) for each in children),
    )


class _Bytes:
    """Bytes of a file; nothing outside them is read."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data).cast("B")
        self.size = len(self._data)

    def check(self, start: int, end: int) -> None:
        if not 0 <= start <= end <= self.size:
            raise ValueError(f"bytes {start} to {end} lie outside its {self.size}")

    def part(self, start: int, end: int) -> bytes:
        self.check(start, end)
        return bytes(self._data[start:end])

    def unpack(self, form: str, start: int) -> tuple[int, ...]:
        self.check(start, start + struct.calcsize(form))
        return struct.unpack_from(form, self._data, start)

    def root(self, start: int) -> "_Table":
        return _Table(self, start + self.unpack("<I", start)[0])


class _Table:
    """A table of FlatBuffers: fields by their number, each of which may be absent."""

    def __init__(self, content: _Bytes, start: int) -> None:
        self._content = content
        self._start = start
        self._slots = start - content.unpack("<i", start)[0]
        (self._slots_bytes,) = content.unpack("<H", self._slots)

    def place(self, field: int) -> int | None:
        """Find the byte at which a field lies; None if the field is absent."""
        at = 4 + 2 * field
        if at + 2 > self._slots_bytes:
            return None
        (offset,) = self._content.unpack("<H", self._slots + at)
        return self._start + offset if offset else None

    def number(self, form: str, field: int) -> int:
        place = self.place(field)
        return 0 if place is None else self._content.unpack(f"<{form}", place)[0]

    def _target(self, field: int) -> int | None:
        place = self.place(field)
        return None if place is None else place + self._content.unpack("<I", place)[0]

    def table(self, field: int) -> "_Table":
        target = self._target(field)
        if target is None:
            raise ValueError(f"its metadata lacks field {field} of a table")
        return _Table(self._content, target)

    def string(self, field: int) -> bytes:
        target = self._target(field)
        if target is None:
            return b""
        (size,) = self._content.unpack("<I", target)
        return self._content.part(target + 4, target + 4 + size)

    def tables(self, field: int) -> list["_Table"]:
        places = self._vector(field, "<I")
        return [_Table(self._content, place + offset) for place, (offset,) in places]

    def structs(self, field: int, form: str) -> list[tuple[int, ...]]:
        return [values for _, values in self._vector(field, form)]

    def _vector(self, field: int, form: str) -> list[tuple[int, tuple[int, ...]]]:
        target = self._target(field)
        if target is None:
            return []
        (length,) = self._content.unpack("<I", target)
        if length > _MOST_ITEMS:
            raise ValueError(f"its metadata lists {length} items, over {_MOST_ITEMS}")
        step = struct.calcsize(form)
        self._content.check(target + 4, target + 4 + length * step)
        places = range(target + 4, target + 4 + length * step, step)
        return [(place, self._content.unpack(form, place)) for place in places]
