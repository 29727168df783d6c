"""Parquet files with one encoded image and its label in each row, also as the Hugging Face hub holds them."""

import io
import json
import re
from collections.abc import Sequence
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
from ensemble.images.decode import decode, decoder, unreadable
from ensemble.images.index import ImageIndex
from ensemble.images.names import is_leftover, to_text
from ensemble.images.settings import ParquetConfig

# The field with the encoded image, where a column is a struct as the Hugging Face library writes it.
_BYTES = "bytes"

# What files of a split are called on the hub, as train-00000-of-00002.
_SPLIT_NAME = re.compile(r"(train|test|validation|valid|val|dev)(?![a-z])", re.IGNORECASE)


@dataclass
class _Parquet:
    config: ParquetConfig
    # The row group that was read last, because images are decoded in the order of their rows.
    _group: tuple[Path, int, pa.ChunkedArray] | None = field(default=None, init=False)

    def index(self) -> ImageIndex:
        digest = sha256(f"{self.config.image}\0{self.config.label}\0".encode())
        ids: list[str] = []
        for path in self._files:
            self._check_image_column(path)
            ids += self._ids(path)
            # Size and time, not content, as of a folder's files.
            stat = path.stat()
            digest.update(f"{path.name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        labels, classes = self._labelled()
        return ImageIndex(
            source=f"parquet-1 {decoder()} {digest.hexdigest()}",
            image_ids=np.array(ids, np.str_),
            labels=labels,
            classes=classes,
            notes=self._notes(),
        )

    def decode(self, image_id: str) -> UInt8[np.ndarray, "height width 3"]:
        return decode(self._encoded(image_id), self.config.max_pixels)

    def decode_reduced(self, image_id: str, short_side: int) -> UInt8[np.ndarray, "height width 3"]:
        return decode(self._encoded(image_id), self.config.max_pixels, short_side)

    def _encoded(self, image_id: str) -> io.BytesIO:
        if image_id not in self._places:
            raise DecodeError(f"no image {image_id!r} in {', '.join(map(str, self._files))}")
        path, row = self._places[image_id]
        try:
            encoded = self._read(path, row)
        except (OSError, pa.ArrowException) as error:
            # Arrow raises OSError also for bytes that it cannot unpack; the system's errors have a number.
            if isinstance(error, OSError) and error.errno is not None:
                raise unreadable(f"{to_text(path)}, row {row}", str(error)) from error
            raise DecodeError(f"{type(error).__name__}: {error}") from error
        if not encoded:
            raise DecodeError("the row holds no image")
        return io.BytesIO(encoded)

    @cached_property
    def _files(self) -> list[Path]:
        paths = self.config.path if isinstance(self.config.path, tuple) else (self.config.path,)
        files = [file for path in paths for file in (_files_in(path) if path.is_dir() else [path])]
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

    def _labelled(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """Read the class index of every row, and the names of the classes."""
        columns = {path: self._column(path, self.config.label) for path in self._files}
        names = self._class_names()
        if all(_is_text(column.type) for column in columns.values()):
            parts = {path: column.to_pylist() for path, column in columns.items()}
            names = names or tuple(sorted({t for texts in parts.values() for t in texts if t}))
            index_by_name = {name: index for index, name in enumerate(names)}
            labels = {
                path: np.array([index_by_name.get(t, -1) for t in texts], np.int64)
                for path, texts in parts.items()
            }
        else:
            labels = {path: self._integers(path, column) for path, column in columns.items()}
        largest = max((int(part.max(initial=-1)) for part in labels.values()), default=-1)
        names = names or tuple(str(label) for label in range(largest + 1))
        labelled = [path for path, part in labels.items() if (part >= 0).any()]
        for path, part in labels.items():
            self._check_labels(path, part, columns[path], len(names), labelled)
        return np.concatenate(list(labels.values())), names

    def _integers(self, path: Path, column: pa.ChunkedArray) -> np.ndarray:
        if not pa.types.is_integer(column.type):
            raise DataError(
                f"the column {self.config.label!r} of {to_text(path)} is {column.type}; expected a class "
                "index or the name of a class in every row, and one of them in every file."
            )
        return pc.fill_null(column.cast(pa.int64()), -1).to_numpy()

    def _check_labels(
        self,
        path: Path,
        labels: np.ndarray,
        column: pa.ChunkedArray,
        num_classes: int,
        labelled: Sequence[Path],
    ) -> None:
        """Refuse rows that are of no class, and name the file that they stand in.

        Raises:
            DataError: A row has no label, or one that is no class.
        """
        wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
        if not len(wrong):
            return
        values = sorted({str(column[int(row)].as_py()) for row in wrong[:1000]})
        how = f"{len(wrong)} of the {len(labels)} rows of {to_text(path)} are of no class: the column "
        how += (
            f"{self.config.label!r} holds {', '.join(values[:5])}{' …' if len(values) > 5 else ''}"
        )
        if len(wrong) < len(labels):
            raise DataError(
                f"{how}, first in row {wrong[0]}, and there are {num_classes} classes. Expected a class in "
                "every row; remove these rows, or set images.source.classes to a file of every class."
            )
        raise DataError(
            f"{how}, as in a test split whose labels are kept secret. Expected a class in every row; "
            + (
                "give a list of the files that have labels: "
                f"images.source.path=[{', '.join(map(str, labelled))}]"
                if labelled
                else "no file that is given has labels; set images.source.path to one that has."
            )
        )

    def _class_names(self) -> tuple[str, ...]:
        """Read the names from the file of the settings, or else from what the hub wrote into the files."""
        if self.config.classes is not None:
            return read_class_names(self.config.classes, self.config.label)
        by_file = {path: _hub_names(path, self.config.label) for path in self._files}
        names = {name for name in by_file.values() if name}
        if len(names) > 1:
            one, other = [path for path, name in by_file.items() if name in names][:2]
            raise DataError(
                f"{to_text(one)} and {to_text(other)} name other classes in their metadata. Expected files "
                "of one data set; set images.source.classes to a file of the names, or leave one out."
            )
        return names.pop() if names else ()

    def _check_image_column(self, path: Path) -> None:
        """Refuse a column that holds no encoded images, before any row is read.

        Raises:
            ConfigError: The column holds something else.
        """
        kind = self._type(path, self.config.image)
        if pa.types.is_struct(kind) and kind.get_field_index(_BYTES) >= 0:
            kind = kind.field(_BYTES).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if not (
            pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or _is_other_binary(kind)
        ):
            raise ConfigError(
                f"the column {self.config.image!r} of {to_text(path)} is {kind}; expected encoded images "
                "as bytes, or a struct with a field `bytes`, as the Hugging Face hub has it. Set "
                "images.source.image."
            )

    def _notes(self) -> tuple[str, ...]:
        """Say that files which are named as splits are one pool, where that is so."""
        splits = {
            match[1].lower(): file.stem
            for file in self._files
            if (match := _SPLIT_NAME.match(file.stem))
        }
        if "test" not in splits or len(splits) < 2 or self.config.id:
            return ()
        return (
            f"the images of {' and '.join(sorted(splits))} files are taken together; to report on the test "
            "files alone set images.split.test_from=test",
        )

    def _type(self, path: Path, name: str) -> pa.DataType:
        root, *fields = name.split(".")
        schema = _open(path).schema_arrow
        self._check_has(path, root, name)
        kind = schema.field(root).type
        for part in fields:
            if not pa.types.is_struct(kind) or kind.get_field_index(part) < 0:
                raise ConfigError(
                    f"{to_text(path)} has no column {name!r}: {root!r} is {schema.field(root).type}. Set "
                    "image, label or id of images.source."
                )
            kind = kind.field(part).type
        return kind

    def _check_has(self, path: Path, root: str, name: str) -> None:
        names = _open(path).schema_arrow.names
        if root not in names:
            raise ConfigError(
                f"{path} has no column {name!r}; it has {', '.join(names)}. Set image, label or id of "
                "images.source."
            )

    def _column(self, path: Path, name: str) -> pa.ChunkedArray:
        self._type(path, name)
        return _plain(_descend(_open(path).read(columns=[name]), name))

    def _read(self, path: Path, row: int) -> Any:
        file = _open(path)
        group = 0
        while row >= file.metadata.row_group(group).num_rows:
            row -= file.metadata.row_group(group).num_rows
            group += 1
        if self._group is None or self._group[:2] != (path, group):
            table = file.read_row_group(group, columns=[self.config.image])
            self._group = (path, group, _descend(table, self.config.image))
        image = self._group[2][row].as_py()
        if not isinstance(image, dict):
            return image
        if not image[_BYTES] and image.get("path"):
            raise DecodeError(f"the row holds no bytes, only the path {image['path']!r}")
        return image[_BYTES]


def read_class_names(path: Path, label: str) -> tuple[str, ...]:
    """Read the names of classes from a text file, one a line, or a JSON list.

    Args:
        path: The file.
        label: Key of the list, where the JSON holds several.

    Raises:
        ConfigError: The file cannot be read, or holds no names.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        names = json.loads(text) if path.suffix == ".json" else text.splitlines()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cannot read the class names {str(path)!r}: {error}. Expected a text file with a name on "
            "each line, or a JSON list."
        ) from error
    if isinstance(names, dict):
        names = names.get(label)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(
            f"{path} holds no list of class names; expected a JSON list, or one under the key {label!r}."
        )
    return tuple(names)


def _hub_names(path: Path, label: str) -> tuple[str, ...]:
    """Read the class names that the Hugging Face library writes beside the columns; empty if there are none."""
    metadata = _open(path).schema_arrow.metadata or {}
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"]
        for part in label.split("."):
            feature = feature[part]
        names = feature["names"]
    except (KeyError, TypeError, ValueError):
        return ()  # written by something else, or the column is no ClassLabel
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return tuple(names) if is_list else ()


def _files_in(folder: Path) -> list[Path]:
    files = (path for path in folder.glob("*.parquet") if not is_leftover(path.name))
    return sorted(path for path in files if path.is_file())


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view()


def _is_other_binary(kind: pa.DataType) -> bool:
    return pa.types.is_fixed_size_binary(kind) or kind == pa.binary_view()


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Write a column out that refers to a dictionary of its values."""
    kind = column.type
    return column.cast(kind.value_type) if pa.types.is_dictionary(kind) else column


def _open(path: Path) -> pq.ParquetFile:
    if path.exists() and not path.is_file():  # a pipe would be waited for without end
        raise ConfigError(
            f"{to_text(path)!r} is no file; set images.source.path to a .parquet file."
        )
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
