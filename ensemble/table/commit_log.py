"""The commit log: numbered entries, each created once. A shard that no entry names does not exist."""

import json
import secrets
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, TypeAdapter, ValidationError

from ensemble.config import Config
from ensemble.errors import DamagedTableError, TableBusyError
from ensemble.storage.store import Store

FOLDER = "log"

Dtype = Literal["float32", "float16"]


class BadImageEntry(Config):
    """An image without a row, and the reason."""

    image_id: str
    reason: str


class _Entry(Config):
    version: Literal[3] = 3
    writer: NonNegativeInt = 0
    """Number of the lease under which the entry was written; 0 for none."""
    attempt: str = Field(default_factory=lambda: secrets.token_hex(8))
    """Random digits that tell a writer its own entry, when the reply was lost, from that of another."""
    host: str = Field(default_factory=socket.gethostname)
    """Name of the machine that wrote the entry."""
    committed_at: str = Field(
        default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds")
    )
    """Time of the entry, in UTC and ISO 8601."""


class Commit(_Entry):
    """One durable shard file."""

    kind: Literal["commit"] = "commit"
    column: str
    """Identity of the computation."""
    name: str
    """Name of the member when the shard was computed; nothing is found by it."""
    identity: dict[str, object]
    """Everything that the column's fingerprint is made of."""
    path: str
    """Path of the shard file below the table's folder."""
    sha256: str
    """SHA-256 of the digests in `pieces`."""
    size_bytes: NonNegativeInt
    """Size of the shard file."""
    dtype: Dtype
    """How the numbers of the shard are stored."""
    image_ids: tuple[str, ...]
    """Id of the image of each row."""
    classes: NonNegativeInt
    """Number of classes, which is the length of a row."""
    values_start: NonNegativeInt
    """Byte of the file at which the rows begin."""
    pieces: tuple[str, ...]
    """SHA-256 of each piece of the file, so that a slice can be read and checked alone."""
    bad: tuple[BadImageEntry, ...] = ()
    """Images of the shard without a row."""
    forward_passes: NonNegativeInt
    """Number of forward passes: images times views."""
    seconds: float
    """Time that the forward passes took."""
    flops_per_image: NonNegativeInt | None = None
    """Floating-point operations for an image under all views; null if they were not counted."""
    gpu_bytes: NonNegativeInt | None = None
    """Peak of the GPU memory that the member used; null without a GPU."""
    device_kind: str | None = None
    """Kind of the device that computed the rows, as `cpu` or the name of a GPU; null where it was not recorded. Not
    part of the identity, because a fleet may mix kinds."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.image_ids)


class Removal(_Entry):
    """Undoes a damaged entry, or takes its place: then `entry` is its own number."""

    kind: Literal["removal"] = "removal"
    entry: NonNegativeInt
    """Number of the entry that no longer counts."""
    reason: str
    """What is damaged."""


Entry = Commit | Removal
_ENTRY: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, Field(discriminator="kind")])


def encode(number: int, entry: Entry) -> bytes:
    """Encode an entry as a line of JSON whose last value is the digest of everything before it."""
    value: dict[str, Any] = entry.model_dump(mode="json") | {"number": number}
    content = json.dumps(value, sort_keys=True).removesuffix("}").encode()
    return content + _ending(content)


def decode(number: int, data: bytes) -> Entry:
    """Decode an entry from bytes that must be, to the last bit, those that `encode` made.

    Raises:
        ValueError: The bytes are not those of this entry.
    """
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    if value.get("version") != 3:
        raise ValueError(f"it is of version {value.get('version')!r}, expected 3")
    content = data[: -len(_ending(b""))]
    if data != content + _ending(content):
        raise ValueError("its content is not what its own sha256 says")
    del value["sha256_of_entry"]
    if value.pop("number", None) != number:
        raise ValueError("it is the copy of another entry")
    return _ENTRY.validate_python(value)


def _ending(content: bytes) -> bytes:
    return f', "sha256_of_entry": "{sha256(content).hexdigest()}"}}\n'.encode()


class CommitLog:
    """Appends and reads entries of one table. The numbers are the fence between writers.

    Args:
        store: Store of the table.
        writer: Number of the lease under which entries are written; 0 for none.
    """

    def __init__(self, store: Store, writer: int = 0) -> None:
        self._store = store
        self._writer = writer
        self._next = 0

    @property
    def next_number(self) -> int:
        """The number that the next entry gets."""
        return self._next

    def read(self, may_lack_log: bool = False) -> Iterator[tuple[int, Commit]]:
        """Read all commits that count, with their numbers, from the first to the last.

        Args:
            may_lack_log: Take shard files without any log for an empty table.

        Raises:
            DamagedTableError: An entry is missing or damaged.
        """
        commits: dict[int, Commit] = {}
        for number, name in enumerate(self._store.keys(FOLDER)):
            if name != key(number):
                raise DamagedTableError(
                    f"the commit log {self._store.url}/{FOLDER} has {name} where entry "
                    f"{key(number)} belongs; an entry was removed. `ensemble table repair` drops "
                    "what it named, so that the next run computes that again."
                )
            entry = self.load(number)
            if isinstance(entry, Commit):
                commits[number] = entry
            else:
                commits.pop(entry.entry, None)
            self._next = number + 1
        if not may_lack_log:
            self._check_not_lost()
        yield from commits.items()

    def append(
        self, entry: Entry, publish_shard: Callable[[], None] | None = None
    ) -> Iterator[Commit]:
        """Make an entry part of the log, so that a crash cannot undo it.

        Args:
            entry: The entry.
            publish_shard: Called once the entry is ready, and before it counts.

        Yields:
            Commits of a driver whose lease ran out, which took a number before this one could.

        Raises:
            TableBusyError: Another driver is writing.
        """
        while True:
            number = self._next
            with self._store.stage([encode(number, entry)]) as staged:
                if publish_shard:
                    publish_shard()
                is_ours = staged.publish(key(number))
            if is_ours:
                shard = [entry.path] if isinstance(entry, Commit) else []
                self._store.sync([*shard, key(number)])
                self._next += 1
                return
            other = self.load(number)
            if other.writer >= self._writer or isinstance(other, Removal):
                raise TableBusyError(
                    f"another run is writing the table {self._store.url} (it holds entry {number} of "
                    f"the commit log, written on {other.host} at {other.committed_at}). Wait for it, "
                    "or give this run another name."
                )
            self._next += 1
            yield other

    def load(self, number: int) -> Entry:
        """Load one entry.

        Raises:
            DamagedTableError: The entry is missing or damaged.
        """
        # Bytes from far away may have been damaged under way only.
        for attempts_left in reversed(range(3 if self._store.is_remote else 1)):
            try:
                return decode(number, self._store.read(key(number)))
            except (ValueError, ValidationError) as error:
                if not attempts_left:
                    reason = "it is not an entry" if isinstance(error, ValidationError) else error
                    raise DamagedTableError(
                        f"the log entry {self._store.url}/{key(number)} is damaged: {reason}. `ensemble "
                        "table repair` drops what it named, so that the next run computes that again."
                    ) from error
        raise AssertionError

    def _check_not_lost(self) -> None:
        # A crash between the first shard and its entry leaves one file; more means a lost log.
        if not self._next and (lost := len(list(self._store.keys("columns")))) > 1:
            raise DamagedTableError(
                f"the table {self._store.url} has {lost} shard files and no commit log. Put the log "
                "back, or let `ensemble table repair` drop the files, so that the next run computes "
                "them again."
            )


def key(number: int) -> str:
    """Name the object of an entry."""
    return f"{FOLDER}/{number:08d}.json"
