"""`ensemble benchmark table`: commits and reads against np.save and np.load of the same bytes.

What a commit and a checked read do beyond those is measured in the same rounds, so that the ratios
explain themselves: a name that survives a crash, and SHA-256.
"""

import hashlib
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import PositiveInt
from rich.console import Console
from rich.text import Text

from ensemble.config import Config, check
from ensemble.files import write_atomic
from ensemble.storage.open import open_store
from ensemble.storage.settings import StorageConfig
from ensemble.storage.store import LocalStore, Store
from ensemble.table.block import LogitBlock
from ensemble.table.imported import ForeignMember
from ensemble.table.logit_table import LogitTable
from ensemble.table.shard_file import piece_digests
from jobs.search_settings import read_settings

_SAVED, _PUBLISHED = "np.save, synced", "np.save, synced, renamed, folder synced"
_LOADED, _CHECKED = "np.load, shard by shard", "np.load and sha256"
_HASHED = "sha256 of rows in memory"


class TableBenchmarkConfig(Config):
    """Sizes of the made-up table, and where it is kept."""

    images: PositiveInt = 16_384
    """Rows of the one column."""
    classes: PositiveInt = 1000
    """Numbers in a row."""
    shard_images: PositiveInt = 2048
    """Rows that are committed together."""
    slice_images: PositiveInt = 1000
    """Consecutive rows of the slice."""
    dtype: Literal["float32", "float16"] = "float32"
    """How the table stores them; np.save gets the same type."""
    repeats: PositiveInt = 5
    """Rounds; all are measured in turn in each of them, and medians are reported."""
    place: str | None = None
    """A folder or s3://bucket/prefix; a temporary folder if not set."""
    storage: StorageConfig = StorageConfig()
    """How to reach it."""
    out: Path = Path("table-benchmark.json")
    """Where the figures go."""


@dataclass
class _Counted:
    """A store that counts the bytes it hands out."""

    store: Store
    bytes_read: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def read(self, key: str) -> bytes:
        data = self.store.read(key)
        self.bytes_read += len(data)
        return data

    def read_large(self, key: str) -> memoryview:
        data = self.store.read_large(key)
        self.bytes_read += len(data)
        return data

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        data = self.store.read_range(key, start, stop)
        self.bytes_read += len(data)
        return data


def benchmark_table(words: Sequence[str], console: Console) -> dict[str, Any]:
    """Measure, print, and write the figures to a file.

    Raises:
        ConfigError: A setting is wrong.
        TableError: The place cannot be written.
    """
    config = check(TableBenchmarkConfig, read_settings(words), "the command")
    folder = Path(tempfile.mkdtemp(prefix="ens-bench-"))
    try:
        seconds, slice_ratio = _measure(config, folder)
    finally:
        shutil.rmtree(folder)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    size_mb = config.images * config.classes * np.dtype(config.dtype).itemsize / 1e6
    document = {
        "schema_version": 1,
        "settings": config.model_dump(mode="json", exclude={"storage"}),
        "machine": {"platform": platform.platform(), "cores": os.cpu_count()},
        "size_mb": size_mb,
        "seconds": seconds,
        "write_ratio": _ratio(seconds, "commit", _SAVED),
        "published_write_ratio": _ratio(seconds, "commit", _PUBLISHED),
        "publishing_ratio": _ratio(seconds, _PUBLISHED, _SAVED),
        "read_ratio": _ratio(seconds, "read", _LOADED),
        "checked_read_ratio": _ratio(seconds, "read", _CHECKED),
        "sha256_ratio": _ratio(seconds, _HASHED, _LOADED),
        "slice_bytes_ratio": slice_ratio,
    }
    for name, median in medians.items():
        console.print(Text(f"{name:38} {median * 1e3:9.1f} ms {size_mb / median:9.0f} MB/s"))
    console.print(
        Text(
            f"commit / np.save {document['write_ratio']:.2f}; a file and a name that survive a crash, "
            f"without table or log, are {document['publishing_ratio']:.2f} of it\n"
            f"read / np.load {document['read_ratio']:.2f}; SHA-256 of bytes in memory, on "
            f"{os.cpu_count()} cores, is {document['sha256_ratio']:.2f} of it; read / np.load with "
            f"SHA-256 of the file {document['checked_read_ratio']:.2f}\n"
            f"bytes read / asked of a slice {slice_ratio:.2f}; {size_mb:.0f} MB, medians of the ratios "
            f"of {config.repeats} rounds"
        ),
        soft_wrap=True,
    )
    write_atomic(config.out, json.dumps(document, indent=2) + "\n")
    return document


def _ratio(seconds: dict[str, list[float]], name: str, against: str) -> float:
    """Median over rounds: what disturbs a round disturbs both."""
    return statistics.median(
        mine / its for mine, its in zip(seconds[name], seconds[against], strict=True)
    )


def _measure(config: TableBenchmarkConfig, folder: Path) -> tuple[dict[str, list[float]], float]:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((config.images, config.classes), np.float32)
    ids = np.array([f"{i:08d}" for i in range(config.images)])
    member = ForeignMember("made-up", {"classes": list(range(config.classes))})
    blocks = [
        LogitBlock(member.column, ids[part], rows[part], (), 0.0, 0)
        for start in range(0, config.images, config.shard_images)
        if (part := slice(start, start + config.shard_images))
    ]
    seconds: dict[str, list[float]] = {}
    slice_ratio = 0.0
    for number in range(config.repeats):
        place = f"{config.place or folder}/{number}-{os.getpid()}"
        store = open_store(place, config.storage)
        table = LogitTable(store, config.dtype)
        # Fresh names each round: a file that is overwritten gets the disk's blocks of before.
        saved, published = folder / f"saved-{number}", folder / f"published-{number}"
        saved.mkdir()
        published.mkdir()
        writes = {
            "commit": partial(_commit, table, member, blocks),
            _SAVED: partial(_save, config, saved, blocks),
            _PUBLISHED: partial(_save, config, published, blocks, is_published=True),
        }
        # In turn the first, because the disk has not finished with one when the other begins.
        for name in sorted(writes, reverse=bool(number % 2)):
            _timed(seconds, name, writes[name])
        found = _timed(seconds, "read", partial(_read, LogitTable(store), blocks))
        _timed(seconds, _LOADED, partial(_load, saved))
        _timed(seconds, _CHECKED, partial(_load, saved, is_checked=True))
        _timed(seconds, _HASHED, partial(_hash, config, blocks))
        slice_ratio = _read_slice(config, store, member, ids)
        if found[0].shape != blocks[0].log_probabilities.shape:
            raise AssertionError
        for key in [*store.keys("columns"), *store.keys("log")]:
            store.remove(key)
        shutil.rmtree(saved)
        shutil.rmtree(published)
    return seconds, slice_ratio


def _commit(table: LogitTable, member: ForeignMember, blocks: list[LogitBlock]) -> None:
    for block in blocks:
        table.commit(member, block)


def _read(table: LogitTable, blocks: list[LogitBlock]) -> list[np.ndarray]:
    return [table.read(block.column, block.image_ids) for block in blocks]


def _save(
    config: TableBenchmarkConfig, folder: Path, blocks: list[LogitBlock], is_published: bool = False
) -> None:
    for number, block in enumerate(blocks):
        path = folder / f"{number}.npy"
        with path.open("wb") as file:
            np.save(file, block.log_probabilities.astype(config.dtype, copy=False))
            file.flush()
            os.fsync(file.fileno())
        if is_published:
            os.replace(path, folder / f"final-{number}.npy")
            LocalStore(folder).sync(["final"])


def _hash(config: TableBenchmarkConfig, blocks: list[LogitBlock]) -> None:
    for block in blocks:
        rows = block.log_probabilities.astype(config.dtype, copy=False)
        piece_digests([rows.reshape(-1).view(np.uint8).data])


def _load(folder: Path, is_checked: bool = False) -> list[np.ndarray]:
    paths = sorted(folder.iterdir())
    if is_checked:
        for path in paths:
            with path.open("rb") as file:
                hashlib.file_digest(file, "sha256")
    return [np.load(path).astype(np.float32, copy=False) for path in paths]


def _read_slice(
    config: TableBenchmarkConfig, store: Store, member: ForeignMember, ids: np.ndarray
) -> float:
    """Bytes read for some consecutive rows, over those that they have as stored."""
    counted = _Counted(store)
    table = LogitTable(counted)
    before = counted.bytes_read
    start = config.shard_images // 3
    wanted = ids[start : start + config.slice_images]
    table.read(member.column, wanted)
    asked = len(wanted) * config.classes * np.dtype(config.dtype).itemsize
    return (counted.bytes_read - before) / asked


def _timed(seconds: dict[str, list[float]], name: str, work: Callable[[], Any]) -> Any:
    began = time.perf_counter()
    value = work()
    seconds.setdefault(name, []).append(time.perf_counter() - began)
    return value
