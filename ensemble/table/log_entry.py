"""What an entry of the commit log holds, and how it is written: one line of JSON that ends in its digest."""

import json
import secrets
import socket
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any, Final, Literal

from pydantic import Field, NonNegativeInt, TypeAdapter, model_validator

from ensemble.config import Config

SHARDS = "columns"
SHARD_PATH = rf"{SHARDS}/[0-9a-f]{{16}}/[0-9a-f]{{16}}\.arrow"
# Bytes of a shard file that have a digest of their own, so that a slice can be read and checked alone.
PIECE_BYTES = 128 << 10
# Entries of version 3 know no fences, and not the kind of device. Version 5 is that of groups alone: what
# programs before them understand is written as they wrote it.
VERSIONS = (3, 4, 5)
LONE_VERSION: Final = 4
GROUP_VERSION: Final = 5
# Rows that the commits of a group have together at most.
MOST_GROUP_ROWS = 1 << 20
_ITEM_BYTES = {"float32": 4, "float16": 2}

Dtype = Literal["float32", "float16"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class BadImageEntry(Config):
    """An image without a row, and the reason."""

    image_id: str
    reason: str


class _Entry(Config):
    version: Literal[3, 4, 5] = LONE_VERSION
    writer: NonNegativeInt = 0
    """Number of the lease under which the entry was written; without a lease, that of the last entry that had one."""
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
    path: Annotated[str, Field(pattern=f"^{SHARD_PATH}$")]
    """Path of the shard file below the table's folder."""
    sha256: Sha256
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
    pieces: tuple[Sha256, ...]
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

    def altered(self, **values: object) -> "Commit":
        """Give a copy with other values, which nothing checks: in a sixth of the time of `model_copy`.

        Opening a table of a million images makes a hundred thousand of them.
        """
        copy = Commit.__new__(Commit)
        copy.__setstate__(
            {
                "__dict__": self.__dict__ | values,
                "__pydantic_fields_set__": self.model_fields_set,
                "__pydantic_extra__": None,
                "__pydantic_private__": None,
            }
        )
        return copy

    @model_validator(mode="after")
    def _rows_lie_in_the_file(self) -> "Commit":
        self.check_rows_lie_in_the_file()
        return self

    def check_rows_lie_in_the_file(self) -> None:
        """Refuse a commit whose rows do not fit its file.

        Raises:
            ValueError: They do not.
        """
        end = self.values_start + self.rows * self.classes * _ITEM_BYTES[self.dtype]
        if end > self.size_bytes or len(self.pieces) != -(-self.size_bytes // PIECE_BYTES):
            raise ValueError(
                f"{self.rows} rows of {self.classes} classes that end at byte {end}, and "
                f"{len(self.pieces)} digests, do not fit a file of {self.size_bytes} bytes"
            )


class Group(_Entry):
    """Several durable shard files, which count all at once."""

    version: Literal[3, 4, 5] = GROUP_VERSION
    kind: Literal["group"] = "group"
    commits: Annotated[tuple[Commit, ...], Field(min_length=1)]
    """An entry for each file, in the order in which they count."""

    @model_validator(mode="after")
    def _files_are_of_one_writer_and_distinct(self) -> "Group":
        if {commit.writer for commit in self.commits} != {self.writer}:
            raise ValueError(f"its commits are not all of its own writer, {self.writer}")
        # All files of a column without a row are one file.
        paths = [commit.path for commit in self.commits if commit.rows]
        if len(set(paths)) < len(paths):
            raise ValueError("it names the rows of a file twice")
        return self


class ShardRemoval(_Entry):
    """Undoes one damaged shard of a group; the others go on counting."""

    version: Literal[3, 4, 5] = GROUP_VERSION
    kind: Literal["shard_removal"] = "shard_removal"
    entry: NonNegativeInt
    """Number of the group's entry."""
    path: Annotated[str, Field(pattern=f"^{SHARD_PATH}$")]
    """Path of the shard file that no longer counts."""
    reason: str
    """What is damaged."""


class Removal(_Entry):
    """Undoes a damaged entry, or takes its place: then `entry` is its own number."""

    kind: Literal["removal"] = "removal"
    entry: NonNegativeInt
    """Number of the entry that no longer counts."""
    reason: str
    """What is damaged."""


class Fence(_Entry):
    """Begins the time of its writer: an entry of an earlier lease that comes after it does not count."""

    kind: Literal["fence"] = "fence"
    reason: str
    """Why earlier writers are shut out."""


Entry = Commit | Group | Removal | ShardRemoval | Fence
ENTRY: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, Field(discriminator="kind")])


def commits_of(entry: Entry) -> tuple[Commit, ...]:
    """List the shard files that an entry names; none for a removal or a fence."""
    if isinstance(entry, Group):
        return entry.commits
    return (entry,) if isinstance(entry, Commit) else ()


def encode(number: int, entry: Entry) -> bytes:
    """Encode an entry as a line of JSON whose last value is the digest of everything before it.

    In a group each list of image ids stands once, however many commits have rows of these images.
    """
    value: dict[str, Any] = entry.model_dump(mode="json") | {"number": number}
    if isinstance(entry, Group):
        places = {ids: place for place, ids in enumerate(dict.fromkeys(_ids_of(entry)))}
        for commit, ids in zip(value["commits"], _ids_of(entry), strict=True):
            del commit["image_ids"]
            commit["images"] = places[ids]
        value["image_sets"] = list(places)
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
    if value.get("version") not in VERSIONS:
        raise ValueError(f"it is of version {value.get('version')!r}, expected 3, 4 or 5")
    content = data[: -len(_ending(b""))]
    if data != content + _ending(content):
        raise ValueError("its content is not what its own sha256 says")
    del value["sha256_of_entry"]
    if value.pop("number", None) != number:
        raise ValueError("it is the copy of another entry")
    if value.get("kind") == "group":
        _put_ids_back(value)
    return ENTRY.validate_python(value)


def _ids_of(group: Group) -> list[tuple[str, ...]]:
    return [commit.image_ids for commit in group.commits]


def _put_ids_back(value: dict[str, Any]) -> None:
    """Give the commits of a group their image ids.

    Raises:
        ValueError: A commit names no image set, or the commits have too many rows together: then a
            small entry of a stranger would fill the memory.
    """
    sets, commits = value.pop("image_sets", None), value.get("commits")
    if not isinstance(sets, list) or not isinstance(commits, list):
        raise ValueError("its commits and image sets are not lists")
    rows = 0
    for commit in commits:
        place = commit.pop("images", None) if isinstance(commit, dict) else None
        if type(place) is not int or not 0 <= place < len(sets) or "image_ids" in commit:
            raise ValueError(f"a commit names {place!r}, none of its {len(sets)} image sets")
        if not isinstance(sets[place], list):
            raise ValueError("an image set is not a list")
        rows += len(sets[place])
        if rows > MOST_GROUP_ROWS:
            raise ValueError(f"its commits have over {MOST_GROUP_ROWS} rows")
        commit["image_ids"] = sets[place]


def _ending(content: bytes) -> bytes:
    return f', "sha256_of_entry": "{sha256(content).hexdigest()}"}}\n'.encode()
