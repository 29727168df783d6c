"""The commit log: numbered entries, each created once. What no entry names does not exist."""

import json
from collections.abc import Iterator
from typing import Literal

from pydantic import NonNegativeInt, ValidationError

from ensemble.config import Config
from ensemble.errors import TableError
from ensemble.table.store import LocalStore

_FOLDER = "log"


class BadImageEntry(Config):
    """An image without a row, and why."""

    image_id: str
    reason: str


class Commit(Config):
    """One durable block."""

    version: Literal[1] = 1
    column: str
    """Identity of the computation."""
    name: str
    """What the member was called when it was computed; for people only."""
    identity: dict[str, object]
    """What the column's fingerprint is made of."""
    path: str
    """The shard file, below the table's folder."""
    sha256: str
    """Of the shard file."""
    rows: NonNegativeInt
    bad: tuple[BadImageEntry, ...] = ()
    forward_passes: NonNegativeInt
    seconds: float
    """What the forward passes took."""
    host: str
    """Where it was computed."""
    committed_at: str
    """UTC, ISO 8601."""


class CommitLog:
    """Appends and reads entries of one table. One writer at a time: the numbers are its fence."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store
        self._next = 0

    def read(self) -> Iterator[Commit]:
        """All commits from the first to the last.

        Raises:
            TableError: An entry is missing or damaged.
        """
        for number, key in enumerate(self._store.keys(_FOLDER)):
            if key != _key(number):
                raise TableError(
                    f"the commit log {self._store.root / _FOLDER} has {key} where entry "
                    f"{_key(number)} belongs; an entry was removed. Delete the table's folder to "
                    "compute it anew."
                )
            try:
                yield Commit.model_validate_json(self._store.read(key))
            except ValidationError as error:
                raise TableError(f"the log entry {self._store.root / key} is damaged.") from error
            self._next = number + 1

    def append(self, commit: Commit) -> None:
        """Make a block part of the table.

        Raises:
            TableError: Another driver wrote this entry.
        """
        text = json.dumps(commit.model_dump(mode="json"), sort_keys=True, indent=1)
        if not self._store.create(_key(self._next), text.encode()):
            raise TableError(
                f"another run is writing the table {self._store.root} (it holds entry {self._next} "
                "of the commit log). Wait for it, or give this run another name."
            )
        self._next += 1


def _key(number: int) -> str:
    return f"{_FOLDER}/{number:08d}.json"
