"""Parquet files with one encoded image and its label in each row."""

import io
import json
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import UInt8

from ensemble.errors import ConfigError, DataError, DecodeError
from ensemble.images.decode import decode, decoder
from ensemble.images.index import ImageIndex
from ensemble.images.settings import ParquetConfig


@dataclass
class _Parquet:
    config: ParquetConfig
    # The row group that was read last, because images are decoded in the order of their rows.
    _group: tuple[Path, int, pa.ChunkedArray] | None = field(default=None, init=False)

    def index(self) -> ImageIndex:
        digest = sha256(f"{self.config.image}\0{self.config.label}\0".encode())
        labels, ids = [], []
        for path in self._files:
            labels.append(self._labels(path))
            ids += self._ids(path)
            # Size and time, not content, as of a folder's files.
            stat = path.stat()
            digest.update(f"{path.name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        joined = np.concatenate(labels)
        return ImageIndex(
            source=f"parquet-1 {decoder()} {digest.hexdigest()}",
            image_ids=np.array(ids, np.str_),
            labels=joined,
            classes=self._classes(joined),
        )

    def decode(self, image_id: str) -> UInt8[np.ndarray, "height width 3"]:
        if image_id not in self._places:
            raise DecodeError(f"no image {image_id!r} in {', '.join(map(str, self._files))}")
        try:
            encoded = self._read(*self._places[image_id])
        except (OSError, pa.ArrowInvalid) as error:
            raise DecodeError(f"{type(error).__name__}: {error}") from error
        if not encoded:
            raise DecodeError("the row holds no image")
        return decode(io.BytesIO(encoded), self.config.max_pixels)

    @cached_property
    def _files(self) -> list[Path]:
        paths = self.config.path if isinstance(self.config.path, tuple) else (self.config.path,)
        files = [
            file
            for path in paths
            for file in (sorted(path.glob("*.parquet")) if path.is_dir() else [path])
        ]
        if not files:
            raise ConfigError(
                f"there is no .parquet file in {', '.join(map(str, paths))}; set images.source.path."
            )
        return files

    @cached_property
    def _places(self) -> dict[str, tuple[Path, int]]:
        return {
            image_id: (path, row)
            for path in self._files
            for row, image_id in enumerate(self._ids(path))
        }

    def _ids(self, path: Path) -> list[str]:
        if self.config.id:
            return [str(value) for value in self._column(path, self.config.id).to_pylist()]
        return [f"{path.stem}/{row:06d}" for row in range(_open(path).metadata.num_rows)]

    def _labels(self, path: Path) -> np.ndarray:
        column = self._column(path, self.config.label)
        if not pa.types.is_integer(column.type) or column.null_count:
            raise DataError(
                f"the column {self.config.label!r} of {path} is {column.type} with {column.null_count} "
                "missing; expected a class index in every row."
            )
        return column.to_numpy().astype(np.int64)

    def _classes(self, labels: np.ndarray) -> tuple[str, ...]:
        path = self.config.classes
        if path is None:
            return tuple(str(label) for label in range(int(labels.max(initial=-1)) + 1))
        try:
            text = path.read_text(encoding="utf-8")
            names = json.loads(text) if path.suffix == ".json" else text.splitlines()
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"cannot read the class names {str(path)!r}: {error}. Expected a text file with a name on "
                "each line, or a JSON list."
            ) from error
        if isinstance(names, dict):
            names = names.get(self.config.label)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ConfigError(
                f"{path} holds no list of class names; expected a JSON list, or one under the key "
                f"{self.config.label!r}."
            )
        return tuple(names)

    def _column(self, path: Path, name: str) -> pa.ChunkedArray:
        file = _open(path)
        root = name.split(".")[0]
        if root not in file.schema_arrow.names:
            raise ConfigError(
                f"{path} has no column {name!r}; it has {', '.join(file.schema_arrow.names)}. Set "
                "image, label or id of images.source."
            )
        return _descend(file.read(columns=[name]), name)

    def _read(self, path: Path, row: int) -> Any:
        file = _open(path)
        group = 0
        while row >= file.metadata.row_group(group).num_rows:
            row -= file.metadata.row_group(group).num_rows
            group += 1
        if self._group is None or self._group[:2] != (path, group):
            table = file.read_row_group(group, columns=[self.config.image])
            self._group = (path, group, _descend(table, self.config.image))
        return self._group[2][row].as_py()


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ConfigError(
            f"cannot read {str(path)!r} as Parquet: {error}. Set images.source.path."
        ) from error


def _descend(table: pa.Table, name: str) -> pa.ChunkedArray:
    root, *fields = name.split(".")
    column = table.column(root)
    return pc.struct_field(column, fields) if fields else column


def open_source(config: ParquetConfig) -> _Parquet:
    """Open the files; nothing is read yet."""
    return _Parquet(config)
