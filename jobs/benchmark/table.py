"""`ensemble benchmark table`: commits and reads against np.save and np.load of the same bytes."""

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
from ensemble.table.block import LogitBlock
from ensemble.table.foreign import ForeignMember
from ensemble.table.logit_table import LogitTable
from ensemble.table.storage import StorageConfig, open_store
from ensemble.table.store import Store
from jobs.run_folder import write
from jobs.search_settings import read_settings


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
        "write_ratio": medians["commit"] / medians["np.save, synced"],
        "read_ratio": medians["read"] / medians["np.load, shard by shard"],
        "checked_read_ratio": medians["read"] / medians["np.load and sha256"],
        "slice_bytes_ratio": slice_ratio,
    }
    for name, median in medians.items():
        console.print(Text(f"{name:24} {median * 1e3:9.1f} ms {size_mb / median:9.0f} MB/s"))
    console.print(
        Text(
            f"commit / np.save {document['write_ratio']:.2f}, read / np.load "
            f"{document['read_ratio']:.2f} (with sha256 of the file: "
            f"{document['checked_read_ratio']:.2f}), bytes read / asked of a slice "
            f"{slice_ratio:.2f}; {size_mb:.0f} MB, medians of {config.repeats}"
        ),
        soft_wrap=True,
    )
    write(config.out, json.dumps(document, indent=2) + "\n")
    return document


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
        saved = folder / f"saved-{number}"
        saved.mkdir()
        writes = {
            "commit": partial(_commit, table, member, blocks),
            "np.save, synced": partial(_save, config, saved, blocks),
        }
        # In turn the first, because the disk has not finished with one when the other begins.
        for name in sorted(writes, reverse=bool(number % 2)):
            _timed(seconds, name, writes[name])
        found = _timed(seconds, "read", partial(_read, LogitTable(store), blocks))
        _timed(seconds, "np.load, shard by shard", partial(_load, saved))
        _timed(seconds, "np.load and sha256", partial(_load, saved, is_checked=True))
        slice_ratio = _read_slice(config, store, member, ids)
        if found[0].shape != blocks[0].log_probabilities.shape:
            raise AssertionError
        for key in [*store.keys("columns"), *store.keys("log")]:
            store.remove(key)
        shutil.rmtree(saved)
    return seconds, slice_ratio


def _commit(table: LogitTable, member: ForeignMember, blocks: list[LogitBlock]) -> None:
    for block in blocks:
        table.commit(member, block)


def _read(table: LogitTable, blocks: list[LogitBlock]) -> list[np.ndarray]:
    return [table.read(block.column, block.image_ids) for block in blocks]


def _save(config: TableBenchmarkConfig, folder: Path, blocks: list[LogitBlock]) -> None:
    for number, block in enumerate(blocks):
        with (folder / f"{number}.npy").open("wb") as file:
            np.save(file, block.log_probabilities.astype(config.dtype, copy=False))
            file.flush()
            os.fsync(file.fileno())


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
