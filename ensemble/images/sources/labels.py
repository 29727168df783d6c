"""A table of labels: which class an image file belongs to, read from comma-separated values."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from ensemble.config import S3_SCHEME
from ensemble.errors import ConfigError, DamagedTableError, DataError
from ensemble.images.settings import LabelsConfig
from ensemble.storage.open import open_store
from ensemble.storage.settings import S3Config

_SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")


@dataclass(frozen=True)
class LabelRow:
    """One row: the file, the name of its class, and the part of the data set, which may be empty."""

    file: str
    label: str
    split: str


@dataclass(frozen=True)
class LabelTable:
    """The rows of a table, one a file.

    Attributes:
        place: Path or URL of the table.
        rows: Its rows, in its order.
        classes: Names of the classes: by number where all are numbers, otherwise by name.
        notes: What was left aside.
    """

    place: str
    rows: tuple[LabelRow, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def read_labels(config: LabelsConfig, storage: S3Config | None) -> LabelTable:
    """Read a table of labels.

    Raises:
        ConfigError: The table is not there, is no text in UTF-8, or lacks a column.
        DataError: A row lacks a label, or two rows contradict each other.
    """
    text = _read(config, storage or S3Config())
    delimiter = max(",;\t", key=text.lstrip().partition("\n")[0].count)
    try:
        reader = csv.reader(StringIO(text), delimiter=delimiter, skipinitialspace=True)
        stripped = [[cell.strip() for cell in row] for row in reader]
    except csv.Error as error:
        raise ConfigError(f"cannot read {config.path!r} as a table: {error}.") from error
    lines = [row for row in stripped if any(row)]
    if len(lines) < 2:
        raise ConfigError(
            f"{config.path} holds {len(lines)} lines; expected a line of column names, and one an image."
        )
    header, *cells = lines
    rows = list(_rows(config, header, cells))
    by_file: dict[str, LabelRow] = {}
    for row in rows:
        other = by_file.setdefault(row.file, row)
        if other != row:
            raise DataError(
                f"{config.path} says of {row.file!r} both {_say(other)} and {_say(row)}; expected one row "
                "an image. Remove the wrong one."
            )
    labels = {row.label for row in by_file.values()}
    is_numbered = all(label.isascii() and label.isdecimal() for label in labels)
    again = len(rows) - len(by_file)
    return LabelTable(
        config.path,
        tuple(by_file.values()),
        tuple(sorted(labels, key=int) if is_numbered else sorted(labels)),
        (f"left aside: {again} rows of {config.path} that stand there twice",) if again else (),
    )


def _read(config: LabelsConfig, storage: S3Config) -> str:
    try:
        if config.path.startswith(S3_SCHEME):
            folder, _, name = config.path.rpartition("/")
            content = open_store(folder, storage).read(name)
        else:
            path = Path(config.path)
            if path.exists() and not path.is_file():
                raise ConfigError(
                    f"the table of labels {config.path!r} is no file. Set images.source.labels.path."
                )
            content = path.read_bytes()
    except (DamagedTableError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else "No such object"
        raise ConfigError(
            f"cannot read the table of labels {config.path!r}: {reason}. Set images.source.labels.path."
        ) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"the table of labels {config.path!r} is not text in UTF-8 ({error}). Save it as UTF-8."
        ) from error


def _rows(
    config: LabelsConfig, header: Sequence[str], cells: Sequence[Sequence[str]]
) -> Iterator[LabelRow]:
    columns = {"file": config.file, "label": config.label}
    columns |= {} if config.split is None else {"split": config.split}
    for setting, column in columns.items():
        if header.count(column) != 1:
            what = "no column" if column not in header else "more than one column"
            raise ConfigError(
                f"{config.path} has {what} {column!r}; it has {', '.join(map(repr, header))}. Set "
                f"images.source.labels.{setting} to one of them."
            )
    places = {setting: header.index(column) for setting, column in columns.items()}
    for number, row in enumerate(cells, 2):
        yield _row(config, {s: row[i] if i < len(row) else "" for s, i in places.items()}, number)


def _row(config: LabelsConfig, cells: Mapping[str, str], number: int) -> LabelRow:
    for setting, cell in cells.items():
        if not cell:
            raise DataError(
                f"row {number} of {config.path} has nothing in its column "
                f"{getattr(config, setting)!r}; expected a {setting} in every row. Fill it in, or remove "
                "the row."
            )
    split = cells.get("split", "").lower()
    if split and split not in _SPLITS:
        raise DataError(
            f"row {number} of {config.path} has the split {cells['split']!r}; expected train, val or test."
        )
    return LabelRow(cells["file"], cells["label"], split)


def _say(row: LabelRow) -> str:
    return f"{row.label!r} ({row.split})" if row.split else repr(row.label)
