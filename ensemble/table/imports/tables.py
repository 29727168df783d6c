"""Files with named columns, CSV and Parquet, as programs and people write them."""

import csv
import io
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from ensemble.errors import ConfigError, DataError
from ensemble.table.imports.arrays import check_is_file
from ensemble.table.imports.columns import Column, are_numbers

_DELIMITERS = ",;\t|"
_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d*,\d+([eE][-+]?\d+)?\s*")
_FLOAT = re.compile(
    r"\s*[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE])|nan|inf)([eE][-+]?\d+)?\s*", re.IGNORECASE
)


def read_columns(path: Path) -> list[Column]:
    """Read the columns of a CSV or Parquet file.

    Raises:
        DataError: The file cannot be read, or its rows do not fit together.
    """
    is_parquet = path.suffix.lower() in (".parquet", ".pq")
    columns = _read_parquet(path) if is_parquet else _read_csv(path)
    names = [column.name for column in columns]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(
            f"{path}: the column {twice[0]!r:.80} stands twice; expected names that differ. Rename or "
            "remove one."
        )
    if not columns or not len(columns[0].values):
        raise DataError(f"{path} has no rows; expected a header and a row for each image.")
    return columns


def _read_csv(path: Path) -> list[Column]:
    lines = [cells for cells in _rows(path, decode_text(path)) if any(cells)]
    if not lines:
        raise DataError(f"{path} has no rows; expected a header and a row for each image.")
    lines[0][0] = lines[0][0].lstrip("# ")  # as np.savetxt begins a header
    width = len(lines[0])
    while width > 1 and not any(cells[width - 1] for cells in lines if len(cells) >= width):
        width -= 1  # a delimiter at the end of every line
    for number, cells in enumerate(lines):
        if len(cells) < width or any(cells[width:]):
            raise DataError(
                f"{path}: row {number} has {len(cells)} cells and the first row {width}; expected as "
                "many in each row."
            )
    is_named = _is_header(lines[0][:width])
    header = lines[0][:width] if is_named else list(map(str, range(width)))
    rows = lines[1:] if is_named else lines
    if not rows:
        raise DataError(f"{path} has a header and no rows; expected a row for each image.")
    return [
        Column(name, np.array(values, np.str_), is_named)
        for name, values in zip(header, list(zip(*rows, strict=False))[:width], strict=True)
    ]


def decode_text(path: Path) -> str:
    """Read a text file in UTF-8 or UTF-16, without its byte order mark.

    Raises:
        DataError: The file cannot be read, or is not such text.
    """
    check_is_file(path, "text")
    try:
        data = path.read_bytes()
        is_wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
        text = data.decode("utf-16" if is_wide else "utf-8").removeprefix("\ufeff")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"cannot read {path}: byte {error.start} is not {error.encoding}. Save the file as UTF-8."
        ) from error
    if "\0" in text:
        raise DataError(f"cannot read {path}: it holds the character NUL. Is it a text file?")
    return text


def read_json(path: Path, expected: str) -> Any:
    """Read a JSON file, with or without a byte order mark.

    Raises:
        ConfigError: The file cannot be read, or is not JSON.
    """
    try:
        return json.loads(decode_text(path))
    except DataError as error:
        raise ConfigError(f"{error} Expected {expected}.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"cannot read {path}: {error}. Expected {expected}.") from error


def _rows(path: Path, text: str) -> Iterator[list[str]]:
    head = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(_DELIMITERS, key=head.count)
    if not head.count(delimiter) and len(head.split()) > 1 and are_numbers(head.split()):
        yield from (line.split() for line in text.splitlines())  # as np.savetxt writes it
        return
    try:
        for cells in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True):
            stripped = [cell.strip() for cell in cells]
            if delimiter != ",":
                stripped = [
                    c.replace(",", ".") if _DECIMAL_COMMA.fullmatch(c) else c for c in stripped
                ]
            yield stripped
    except csv.Error as error:
        raise DataError(f"cannot read {path}: {error}. Expected a CSV file.") from error


def _is_header(cells: Sequence[str]) -> bool:
    """Tell names from a first row of scores: names are no numbers with a fraction."""
    return not any(_FLOAT.fullmatch(cell) for cell in cells)


def _read_parquet(path: Path) -> list[Column]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path, memory_map=False) as file:
            table = file.read()
        table.validate(full=True)
        return [
            Column(name, _from_arrow(table.column(number).combine_chunks()))
            for number, name in enumerate(table.column_names)
        ]
    except (
        pa.ArrowException,
        OSError,
        ValueError,
        OverflowError,
        MemoryError,
        zlib.error,
    ) as error:
        raise DataError(f"cannot read {path}: {error}. Expected a Parquet file.") from error


def _from_arrow(values: Any) -> Shaped[np.ndarray, "..."]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return np.array([text or "" for text in values.to_pylist()], np.str_)
    if pa.types.is_decimal(kind):
        values, kind = values.cast(pa.float64()), pa.float64()
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return np.asarray(values.to_numpy(zero_copy_only=False))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        flat = values.flatten()
        is_number = pa.types.is_integer(flat.type) or pa.types.is_floating(flat.type)
        lengths = set(pc.list_value_length(values).to_pylist())
        if is_number and len(lengths) == 1 and lengths != {None}:
            return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(len(values), -1)
    # Nothing that is read here; as text that is the same in every row it plays no part.
    return np.full(len(values), str(kind))
