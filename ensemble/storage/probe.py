"""Whether a store keeps the promises that a table needs; found out by trying, before a run."""

import secrets
from dataclasses import dataclass

from ensemble.errors import ConfigError
from ensemble.storage.s3_store import S3Store, without_conditional_writes
from ensemble.storage.settings import StorageConfig
from ensemble.storage.store import Store


@dataclass(frozen=True)
class Finding:
    """One promise of a store.

    Attributes:
        promise: What is promised.
        is_kept: Whether it was.
        detail: What was seen.
        is_needed: Whether a run needs it.
    """

    promise: str
    is_kept: bool
    detail: str
    is_needed: bool = True


def probe(store: Store) -> tuple[Finding, ...]:
    """Write, read and remove objects of our own below `probe/`.

    Raises:
        TableError: The store cannot be reached, or refuses.
    """
    key, data = f"probe/{secrets.token_hex(8)}", secrets.token_bytes(4096)
    store.replace(key, data)
    try:
        found = store.read(key)
        part = store.read_range(key, 1000, 2000)
        ranges = [_range_status(store, key)] if isinstance(store, S3Store) else []
        return (
            Finding("what is written can be read", found == data, f"{len(data)} bytes compared"),
            Finding("a range is its bytes", part == data[1000:2000], f"{len(part)} bytes of 1000"),
            *ranges,
            _creates_once(store, f"{key}-once"),
        )
    finally:
        store.remove(key)


def require_conditional_writes(store: Store, config: StorageConfig) -> None:
    """Refuse a store on which two runs could overwrite each other, unless that is accepted.

    Raises:
        ConfigError: The store overwrites where it should refuse.
    """
    if not store.is_remote or config.single_writer:
        return
    if not _creates_once(store, f"probe/{secrets.token_hex(8)}").is_kept:
        raise ConfigError(without_conditional_writes(store.url))


def _creates_once(store: Store, key: str) -> Finding:
    first = store.create(key, b"first")
    try:
        second, kept = store.create(key, b"second"), store.read(key)
    finally:
        store.remove(key)
    is_kept = first and not second and kept == b"first"
    detail = "the second create was refused" if is_kept else f"afterwards it held {kept!r}"
    return Finding("an object is created once (If-None-Match)", is_kept, detail)


def _range_status(store: S3Store, key: str) -> Finding:
    status = store.range_status(key)
    # Bytes are what counts, and they are compared above; a 200 is odd, and only that.
    return Finding("a range answers 206", status == 206, f"status {status}", is_needed=False)
