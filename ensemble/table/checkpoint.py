"""Checkpoints of the log: many entries in one Arrow file, so that opening a large table reads few objects.

A checkpoint says nothing that its entries do not say. One that is missing or damaged costs time alone:
then the entries are read.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter

from ensemble.table.arrow_columns import ArrowColumns
from ensemble.table.image_numbers import SharedValues
from ensemble.table.log_entry import (
    ENTRY,
    MOST_GROUP_ROWS,
    SHARDS,
    BadImageEntry,
    Commit,
    Entry,
    commits_of,
)

FORMAT = b"ensemble-log-1"
_DIGEST, _PATH_HALF = 32, 8
# What the commits of a member have in common, which stands once; all else has a column of its own.
_SHARED = (
    *("version", "writer", "host", "column", "name", "identity", "dtype", "classes"),
    *("flops_per_image", "device_kind"),
)
_NUMBERS = ("size_bytes", "values_start", "forward_passes")
_NO_GPU_BYTES = -1
_BAD: TypeAdapter[tuple[BadImageEntry, ...]] = TypeAdapter(tuple[BadImageEntry, ...])
_DIGESTS = pa.binary(_DIGEST)
SCHEMA = pa.schema(
    [
        ("entry", pa.int32()),
        ("shared", pa.int32()),
        ("path", pa.binary(2 * _PATH_HALF)),
        ("sha256", _DIGESTS),
        ("pieces", pa.list_(_DIGESTS)),
        ("attempt", pa.string()),
        ("committed_at", pa.string()),
        # The first commit with the same image ids, which has them.
        ("images", pa.int32()),
        ("image_ids", pa.list_(pa.string())),
        ("bad", pa.string()),
        *((name, pa.int64()) for name in (*_NUMBERS, "gpu_bytes")),
        ("seconds", pa.float64()),
    ]
)


def encode(first: int, entries: Sequence[Entry]) -> bytes | None:
    """Encode entries that follow each other: a pure function of them.

    Args:
        first: Number of the first entry.
        entries: The entries.

    Returns:
        The bytes of an Arrow file; None where an entry holds what a column cannot, as a size of 2^64:
        such entries are read one by one.
    """
    own = [
        None if isinstance(entry, Commit) else entry.model_dump(mode="json", exclude={"commits"})
        for entry in entries
    ]
    shared: dict[str, int] = {}
    try:
        columns = _as_columns(entries, shared)
        batch = pa.record_batch(list(columns.values()), names=list(columns)).cast(SCHEMA)
    except (pa.ArrowException, OverflowError, ValueError):
        return None
    texts = {
        b"format": FORMAT,
        b"first": b"%d" % first,
        b"entries": json.dumps(own, sort_keys=True).encode(),
        b"shared": f"[{', '.join(shared)}]".encode(),
    }
    # Arrow alone knows how it will lay the buffers out, so they are digested as they are read.
    data = _as_file(batch, texts | {b"sha256": bytes(2 * _DIGEST)})
    digest = ArrowColumns(data, SCHEMA).digest()
    data = _as_file(batch, texts | {b"sha256": digest.encode()})
    try:
        return data if decode(first, data) == tuple(entries) else None
    except ValueError:
        return None


def _as_file(batch: pa.RecordBatch, texts: Mapping[bytes, bytes]) -> bytes:
    schema = batch.schema.with_metadata(texts)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(batch.replace_schema_metadata(texts))
    return sink.getvalue().to_pybytes()


def _as_columns(entries: Sequence[Entry], shared: dict[str, int]) -> dict[str, pa.Array]:
    """Give the columns of all commits, and number what some of them have in common."""
    rows = [(place, commit) for place, entry in enumerate(entries) for commit in commits_of(entry)]
    commits = [commit for _, commit in rows]
    first_with: dict[tuple[str, ...], int] = {}
    images = [first_with.setdefault(commit.image_ids, row) for row, commit in enumerate(commits)]
    # Equal identities are one object mostly, and take longest to write down.
    texts = {id(commit.identity): commit.identity for commit in commits}
    identities = {key: json.dumps(identity, sort_keys=True) for key, identity in texts.items()}
    keys = [_shared_by(commit, identities[id(commit.identity)]) for commit in commits]
    values: dict[str, list[Any]] = {
        "entry": [place for place, _ in rows],
        "shared": [shared.setdefault(key, len(shared)) for key in keys],
        "path": [_packed_path(commit.path) for commit in commits],
        "sha256": [bytes.fromhex(commit.sha256) for commit in commits],
        "pieces": [[bytes.fromhex(piece) for piece in commit.pieces] for commit in commits],
        "attempt": [commit.attempt for commit in commits],
        "committed_at": [commit.committed_at for commit in commits],
        "images": images,
        "image_ids": [
            commit.image_ids if row == place else ()
            for row, (place, commit) in enumerate(zip(images, commits, strict=True))
        ],
        "bad": [_BAD.dump_json(c.bad).decode() if c.bad else "" for c in commits],
        "gpu_bytes": [
            _NO_GPU_BYTES if commit.gpu_bytes is None else commit.gpu_bytes for commit in commits
        ],
        "seconds": [commit.seconds for commit in commits],
    }
    values |= {name: [getattr(commit, name) for commit in commits] for name in _NUMBERS}
    return {field.name: pa.array(values[field.name], field.type) for field in SCHEMA}


def _shared_by(commit: Commit, identity: str) -> str:
    values = {name: getattr(commit, name) for name in _SHARED if name != "identity"}
    return f'{{"identity": {identity}, {json.dumps(values, sort_keys=True)[1:]}'


def _packed_path(path: str) -> bytes:
    _, column, name = path.split("/")
    return bytes.fromhex(column + name.removesuffix(".arrow"))


def decode(first: int, data: bytes, values: SharedValues | None = None) -> tuple[Entry, ...]:
    """Decode the entries of a checkpoint from bytes that a stranger may have written.

    Args:
        first: Number of the first entry.
        data: Bytes of the file.
        values: Ids and identities of commits before, which equal ones are taken from.

    Raises:
        ValueError: The bytes are not those of this checkpoint, or an entry of it cannot be.
    """
    reader = ArrowColumns(data, SCHEMA)
    if reader.texts.get(b"format") != FORMAT:
        raise ValueError(f"its format is {reader.texts.get(b'format')!r}, expected {FORMAT!r}")
    if reader.texts.get(b"sha256", b"").decode() != reader.digest():
        raise ValueError("its content is not what its own sha256 says")
    if reader.texts[b"first"] != b"%d" % first:
        raise ValueError("it is the copy of another checkpoint")
    own, shared = json.loads(reader.texts[b"entries"]), json.loads(reader.texts[b"shared"])
    if not isinstance(own, list) or not isinstance(shared, list):
        raise ValueError("its entries are no list")
    commits = _commits(reader, shared, values or SharedValues())
    places = reader.integers("entry").tolist()
    by_entry: list[list[Commit]] = [[] for _ in own]
    for place, commit in zip(places, commits, strict=True):
        if not 0 <= place < len(own):
            raise ValueError(f"a commit is of entry {place}, and it has {len(own)}")
        by_entry[place].append(commit)
    return tuple(map(_entry, own, by_entry))


def _entry(own: object, commits: list[Commit]) -> Entry:
    """Put an entry together.

    Raises:
        ValueError: It has commits and may not, or has none and must, or too many rows.
    """
    if own is None:
        (commit,) = commits
        return commit
    if not isinstance(own, dict):
        raise ValueError("an entry is no object")
    if sum(commit.rows for commit in commits) > MOST_GROUP_ROWS:
        raise ValueError(f"the commits of an entry have over {MOST_GROUP_ROWS} rows")
    return ENTRY.validate_python(own | {"commits": tuple(commits)} if commits else own)


def _commits(reader: ArrowColumns, shared: Sequence[Any], known: SharedValues) -> Iterator[Commit]:
    """Make the commits: the first of each member is checked by its model, of the others what may differ."""
    templates: dict[int, Commit] = {}
    numbers = reader.integers("shared").tolist()
    for number, values in zip(numbers, _differing(reader, known), strict=True):
        template = templates.get(number)
        if template is None:
            if not 0 <= number < len(shared) or not isinstance(shared[number], dict):
                raise ValueError(f"a commit has {number} in common with others, of {len(shared)}")
            template = known.share(Commit.model_validate(shared[number] | values))
            templates[number] = template
        commit = template.altered(**values)
        commit.check_rows_lie_in_the_file()
        yield commit


def _differing(reader: ArrowColumns, known: SharedValues) -> Iterator[dict[str, Any]]:
    """Give what differs between the commits of a member, checked as its model would."""
    numbers = {name: reader.integers(name) for name in _NUMBERS}
    if any((values < 0).any() for values in numbers.values()):
        raise ValueError("a number is negative")
    gpu_bytes = reader.integers("gpu_bytes")
    if (gpu_bytes < _NO_GPU_BYTES).any():
        raise ValueError("a number is negative")
    pieces = reader.lists("pieces", reader.hexadecimal("pieces"))
    columns: dict[str, Sequence[Any]] = {
        "path": [f"{SHARDS}/{path[:16]}/{path[16:]}.arrow" for path in reader.hexadecimal("path")],
        "sha256": reader.hexadecimal("sha256"),
        "pieces": pieces,
        "attempt": reader.strings("attempt"),
        "committed_at": reader.strings("committed_at"),
        "image_ids": _image_ids(reader, known),
        "bad": [_BAD.validate_json(text) if text else () for text in reader.strings("bad")],
        "gpu_bytes": [None if n == _NO_GPU_BYTES else n for n in gpu_bytes.tolist()],
        "seconds": reader.floats("seconds").tolist(),
    }
    columns |= {name: values.tolist() for name, values in numbers.items()}
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def _image_ids(reader: ArrowColumns, known: SharedValues) -> list[tuple[str, ...]]:
    sets = [known.ids(ids) for ids in reader.lists("image_ids", reader.strings("image_ids"))]
    places = reader.integers("images")
    if not len(places):
        return []
    if (places < 0).any() or (places > np.arange(len(places))).any():
        raise ValueError("a commit has the images of a later one")
    return [sets[place] for place in places.tolist()]
