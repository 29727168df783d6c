"""Encoded images in a column of Parquet files."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ensemble.errors import ConfigError, DecodeError
from ensemble.images.decode import decode
from ensemble.images.unlabelled.open import Listed, Position, files_in
from ensemble.images.unlabelled.settings import UnlabelledConfig

_BYTES = "bytes"  # the field with the encoded image, where a column is a struct as the hub has it


@dataclass
class _Parquet:
    config: UnlabelledConfig
    # The file that was read last, and the row group, because images are decoded in the order of rows.
    _file: tuple[str, pq.ParquetFile] | None = None
    _group: tuple[str, int, list[Any]] | None = field(default=None, init=False)

    def listed(self, position: Position) -> Iterator[Listed]:
        skipped = 0
        for path in files_in(self.config.path, ".parquet"):
            file = self._open(path)
            rows = file.metadata.num_rows
            if skipped + rows <= position.count:
                skipped += rows
                continue
            first = max(0, position.count - skipped)
            skipped += rows
            for row, image_id in enumerate(self._ids(path, file)):
                if row >= first:
                    yield Listed(f"{path.name}:{row}", image_id)

    def _ids(self, path: Path, file: pq.ParquetFile) -> Iterator[str]:
        if self.config.id is None:
            yield from (f"{path.name}:{row}" for row in range(file.metadata.num_rows))
            return
        for batch in file.iter_batches(columns=[self.config.id]):
            yield from map(str, batch.column(0).to_pylist())

    def decode(self, key: str) -> np.ndarray:
        name, _, row = key.rpartition(":")
        try:
            encoded = self._read(name, int(row))
        except (OSError, pa.ArrowException, ConfigError) as error:
            raise DecodeError(f"the row cannot be read: {error}") from error
        if isinstance(encoded, dict):
            encoded = encoded.get(_BYTES)
        if not isinstance(encoded, bytes) or not encoded:
            raise DecodeError("the row holds no image")
        return decode(io.BytesIO(encoded), self.config.max_pixels)

    def _read(self, name: str, row: int) -> Any:
        if self._file is None or self._file[0] != name:
            place = Path(self.config.path)
            self._file = name, self._open(place / name if place.is_dir() else place)
        file, group = self._file[1], 0
        while row >= file.metadata.row_group(group).num_rows:
            row -= file.metadata.row_group(group).num_rows
            group += 1
        if self._group is None or self._group[:2] != (name, group):
            column = file.read_row_group(group, columns=[self.config.image]).column(0)
            self._group = name, group, column.to_pylist()
        return self._group[2][row]

    def _open(self, path: Path) -> pq.ParquetFile:
        try:
            file = pq.ParquetFile(path)
        except (OSError, pa.ArrowException) as error:
            raise ConfigError(
                f"cannot read {str(path)!r} as Parquet: {error}. Expected a .parquet file."
            ) from error
        names = file.schema_arrow.names
        for setting, name in (("image", self.config.image), ("id", self.config.id)):
            if name is not None and name not in names:
                raise ConfigError(
                    f"{str(path)!r} has no column {name!r}; it has {', '.join(names)}. Set "
                    f"images.{setting} to one of them."
                )
        return file


def open_source(config: UnlabelledConfig) -> _Parquet:
    """Open the files; nothing is read yet."""
    return _Parquet(config)
