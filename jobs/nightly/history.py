"""The history of a suite: immutable records, numbered by creating what is not there yet, and files of outcomes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from ensemble.errors import DataError, TableError
from ensemble.nightly.outcomes import Outcomes
from ensemble.report.documents.nightly import (
    Accept,
    Acknowledge,
    Night,
    Record,
    decode_record,
    encode_record,
)
from ensemble.storage.store import Store

RECORDS, OUTCOMES, PAGES = "records", "outcomes", "nights"
INDEX, MARKDOWN, JUNIT, TABLE_FILE = "index.html", "night.md", "junit.xml", "history.parquet"

AnyRecord = TypeVar("AnyRecord", Night, Accept, Acknowledge)


@dataclass(frozen=True)
class Numbered:
    """A record and its number, which tells the order in which records were written."""

    number: int
    record: Record


@dataclass(frozen=True)
class History:
    """All records of a suite, in their order; one value for every derived state.

    Attributes:
        records: The records.
    """

    records: tuple[Numbered, ...] = ()

    def nights(self) -> Iterator[tuple[int, Night]]:
        """Give the nights that count, without trials, with their numbers."""
        for entry in self.records:
            if isinstance(entry.record, Night) and not entry.record.is_smoke:
                yield entry.number, entry.record

    def accepts(self) -> Iterator[tuple[int, Accept]]:
        """Give the records of accepted nights, with their numbers."""
        for entry in self.records:
            if isinstance(entry.record, Accept):
                yield entry.number, entry.record

    @cached_property
    def last(self) -> tuple[int, Night] | None:
        """The last night that counts, with its number; None before the first."""
        return max(self.nights(), default=None, key=lambda entry: entry[0])

    def night(self, number: int) -> Night:
        """Find a night by the number of its record.

        Raises:
            DataError: The record is missing, or is not that of a night.
        """
        for entry in self.records:
            if entry.number == number and isinstance(entry.record, Night):
                return entry.record
        raise DataError(
            f"the history has no night with the number {number}; expected a record "
            f"{RECORDS}/{number:06d}.json of a night. Restore it, or accept a later night."
        )

    def with_record(self, number: int, record: Record) -> "History":
        """Add a record to the value; the store is another matter."""
        return History((*self.records, Numbered(number, record)))


def key_of(number: int) -> str:
    """Name the file of a record."""
    return f"{RECORDS}/{number:06d}.json"


def read_history(store: Store) -> History:
    """Read all records.

    Raises:
        DataError: A record is damaged; the message names it.
    """
    return History(tuple(Numbered(*_read(store, key)) for key in _keys(store)))


def append(store: Store, record: Record, near: int = 0) -> int:
    """Write a record under the next number that nobody has, and give that number.

    Args:
        store: Store of the suite's folder; it must refuse to create what is there.
        record: The record.
        near: A number that is known to be taken; the store is listed if it is 0.

    Raises:
        TableError: The store cannot be written.
    """
    content, number = encode_record(record), (near or _last(store)) + 1
    while not store.create(key_of(number), content):
        number += 1
    return number


def write_outcomes(store: Store, outcomes: Outcomes) -> str:
    """Keep outcomes under the SHA-256 of their numbers, which is returned."""
    digest = outcomes.sha256
    key = f"{OUTCOMES}/{digest}.npz"
    if key not in set(store.keys(OUTCOMES)):
        store.replace(key, outcomes.encode())
    return digest


def read_outcomes(store: Store, digest: str) -> Outcomes:
    """Read outcomes by their SHA-256.

    Raises:
        DataError: The file is missing or holds other numbers.
    """
    key = f"{OUTCOMES}/{digest}.npz"
    try:
        outcomes = Outcomes.decode(store.read(key), f"{store.url}/{key}")
    except TableError as error:
        raise DataError(f"the outcomes of a night cannot be read: {error}") from error
    if outcomes.sha256 != digest:
        raise DataError(
            f"{store.url}/{key} holds other numbers than its name says. Restore the file, or accept a later "
            "night as the baseline."
        )
    return outcomes


def _keys(store: Store) -> Sequence[str]:
    return [key for key in store.keys(RECORDS) if key.endswith(".json")]


def _last(store: Store) -> int:
    return max((_number(key) for key in _keys(store)), default=0)


def _number(key: str) -> int:
    stem = key.rpartition("/")[2].removesuffix(".json")
    return int(stem) if stem.isdecimal() else 0


def _read(store: Store, key: str) -> tuple[int, Record]:
    try:
        return _number(key), decode_record(store.read(key))
    except ValueError as error:
        raise DataError(
            f"{store.url}/{key} is not the record of a night ({error}). Restore it from a copy; a record is "
            "never changed once it is written."
        ) from error
