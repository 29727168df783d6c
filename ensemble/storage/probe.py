"""A trial of the promises that a table needs of a store, before a run relies on them."""

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
        promise: The promise, as a sentence.
        is_kept: Whether the store kept the promise.
        detail: The observation that shows it.
        is_needed: Whether a run needs the promise.
    """

    promise: str
    is_kept: bool
    detail: str
    is_needed: bool = True


def probe(store: Store) -> tuple[Finding, ...]:
    """Try the promises by writing, reading and removing new objects below `probe/`.

    Raises:
        TableError: The store cannot be reached, or refuses.
    """
    key, data = f"probe/{secrets.token_hex(8)}", secrets.token_bytes(4096)
    store.replace(key, data)
    try:
        data_read = store.read(key)
        part = store.read_range(key, 1000, 2000)
        ranges = [_range_status(store, key)] if isinstance(store, S3Store) else []
        return (
            Finding(
                "what is written can be read", data_read == data, f"{len(data)} bytes compared"
            ),
            Finding("a range is its bytes", part == data[1000:2000], f"{len(part)} bytes of 1000"),
            *ranges,
            _creates_once(store, f"{key}-once"),
        )
    finally:
        store.remove(key)


def require_conditional_writes(store: Store, config: StorageConfig) -> None:
    """Refuse a store on which two runs could overwrite each other, unless `single_writer` is set.

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
