"""Columns of an Arrow file of strangers: integers, numbers, texts, digests, and lists of these."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import TypeVar

import numpy as np
import pyarrow as pa
from jaxtyping import Float64, Int

from ensemble.table import arrow_file
from ensemble.table.arrow_file import Field

_Item = TypeVar("_Item")
_LIST_BUFFERS = 2
_BUFFERS = {
    arrow_file.INTEGER: 2,
    arrow_file.FLOATING_POINT: 2,
    arrow_file.FIXED_SIZE_BINARY: 2,
    arrow_file.UTF8: 3,
}


@dataclass(frozen=True)
class _Place:
    """Where the values of a field lie.

    Attributes:
        field: The field.
        length: Number of values.
        buffers: First byte and end of each of its buffers.
        items: The values inside its lists.
    """

    field: Field
    length: int
    buffers: tuple[tuple[int, int], ...]
    items: tuple["_Place", ...]


class ArrowColumns:
    """Reads the columns of one file, each of which has a value a row.

    Args:
        data: Bytes of the file.
        schema: Its fields; a file with others is refused.

    Raises:
        ValueError: The bytes are no Arrow file with these fields.
    """

    def __init__(self, data: bytes, schema: pa.Schema) -> None:
        layout = arrow_file.read_layout(data)
        expected = tuple(map(_field_of, schema))
        if layout.fields != expected:
            raise ValueError(f"its fields are {layout.fields}; expected {expected}")
        self.texts = layout.metadata
        self._data = memoryview(data)
        self._layout = layout
        lengths, buffers = iter(layout.lengths), iter(layout.buffers)
        try:
            places = [_place(field, lengths, buffers) for field in expected]
        except StopIteration:
            raise ValueError("it lacks a buffer") from None
        self.rows = places[0].length
        if any(place.length != self.rows for place in places):
            raise ValueError("its columns are not of one length")
        self._places = {place.field.name: place for place in places}

    def digest(self) -> str:
        """Compute the SHA-256 of all that is read: texts but `sha256`, lengths and buffers."""
        digest = sha256()
        texts = [text for pair in self.texts.items() if pair[0] != b"sha256" for text in pair]
        parts: list[bytes | memoryview] = [*texts, f"{self._layout.lengths}".encode()]
        parts += [self._data[start:end] for start, end in self._layout.buffers]
        for part in parts:
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
        return digest.hexdigest()

    def integers(self, name: str) -> Int[np.ndarray, " row"]:
        """Read a column of integers.

        Raises:
            ValueError: The column ends too early.
        """
        place = self._places[name]
        return self._array(place, f"<i{place.field.parameter // 8}")

    def floats(self, name: str) -> Float64[np.ndarray, " row"]:
        """Read a column of numbers of double precision.

        Raises:
            ValueError: The column ends too early.
        """
        return self._array(self._places[name], "<f8")

    def hexadecimal(self, name: str) -> list[str]:
        """Read a column of values of a fixed size, or what its lists hold, as hexadecimal digits.

        Raises:
            ValueError: The column ends too early.
        """
        place = self._values_of(name)
        size = place.field.parameter
        digits = bytes(self._part(place, place.length * size)).hex()
        return [digits[at : at + 2 * size] for at in range(0, 2 * size * place.length, 2 * size)]

    def strings(self, name: str) -> list[str]:
        """Read a column of text, or what its lists hold.

        Raises:
            ValueError: A text lies outside the file, or is not UTF-8.
        """
        place = self._values_of(name)
        ends = self._ends(place)
        start, stop = place.buffers[2]
        if ends[-1] > stop - start:
            raise ValueError(f"a text of {name} lies outside the file's")
        text = bytes(self._data[start : start + ends[-1]])
        if text.isascii():
            whole = text.decode("ascii")
            return [whole[a:b] for a, b in pairwise(ends)]
        return [text[a:b].decode() for a, b in pairwise(ends)]

    def lists(self, name: str, values: Sequence[_Item]) -> list[tuple[_Item, ...]]:
        """Divide what the lists of a column hold.

        Args:
            name: Name of the column.
            values: What its lists hold, one after another.

        Raises:
            ValueError: A list lies outside the values.
        """
        ends = self._ends(self._places[name])
        if ends[-1] > len(values):
            raise ValueError(f"a list of {name} lies outside its values")
        return [tuple(values[a:b]) for a, b in pairwise(ends)]

    def _values_of(self, name: str) -> _Place:
        place = self._places[name]
        return place.items[0] if place.items else place

    def _ends(self, place: _Place) -> list[int]:
        """Give where each value begins, and where the last one ends."""
        if not place.length:
            return [0]
        offsets = self._array(place, "<i4", more=1)
        if offsets[0] < 0 or (np.diff(offsets) < 0).any():
            raise ValueError(f"the values of {place.field.name} do not follow each other")
        return offsets.tolist()

    def _array(self, place: _Place, form: str, more: int = 0) -> np.ndarray:
        dtype = np.dtype(form)
        count = place.length + more
        return np.frombuffer(self._part(place, count * dtype.itemsize), dtype, count)

    def _part(self, place: _Place, size: int) -> memoryview:
        start, stop = place.buffers[1]
        if not 0 <= size <= stop - start:
            raise ValueError(
                f"the column {place.field.name} ends before its {place.length} values do"
            )
        return self._data[start : start + size]


def _field_of(field: pa.Field) -> Field:
    """Describe a field as `arrow_file` does."""
    kind = field.type
    if pa.types.is_list(kind):
        return Field(field.name, arrow_file.LIST, 0, (_field_of(kind.value_field),))
    if pa.types.is_fixed_size_binary(kind):
        return Field(field.name, arrow_file.FIXED_SIZE_BINARY, kind.byte_width, ())
    if pa.types.is_integer(kind):
        return Field(field.name, arrow_file.INTEGER, kind.bit_width, ())
    if pa.types.is_float64(kind):
        return Field(field.name, arrow_file.FLOATING_POINT, arrow_file.DOUBLE, ())
    return Field(field.name, arrow_file.UTF8, 0, ())


def _place(field: Field, lengths: Iterator[int], buffers: Iterator[tuple[int, int]]) -> _Place:
    length = next(lengths)
    if length < 0:
        raise ValueError(f"the column {field.name} has {length} values")
    own = tuple(next(buffers) for _ in range(_BUFFERS.get(field.type, _LIST_BUFFERS)))
    return _Place(
        field, length, own, tuple(_place(item, lengths, buffers) for item in field.children)
    )
