"""`ensemble benchmark table`: commits and reads against np.save and np.load of the same bytes.

What a commit and a checked read do beyond those is measured in the same rounds, so that the ratios
explain themselves: a name that survives a crash, and SHA-256.
"""

import hashlib
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import PositiveInt
from rich.console import Console
from rich.text import Text

from ensemble.storage.local_store import LocalStore
from ensemble.storage.open import open_store
from ensemble.storage.settings import StorageConfig
from ensemble.storage.store import Store
from ensemble.table.block import LogitBlock
from ensemble.table.imported import ImportedMember
from ensemble.table.logit_table import LogitTable
from ensemble.table.shard_file import piece_digests
from jobs.benchmark.report import (
    Bar,
    Begin,
    BenchmarkConfig,
    BenchmarkReport,
    finish,
    read_config,
    step_printer,
)
from jobs.benchmark.table_opening import measure_opening

_SAVED, _PUBLISHED = "np.save, synced", "np.save, synced, renamed, folder synced"
_LOADED, _CHECKED = "np.load, shard by shard", "np.load and sha256"
_HASHED = "sha256 of rows in memory"

# A read is held to np.load plus SHA-256: every read is checked, and hashing alone takes longer than
# np.load's copy out of the page cache.
WRITE_BAR, CHECKED_READ_BAR, SLICE_BAR = 1.5, 1.2, 1.3
# Of 1,000,000 images and 13 members, on a local disk.
OPEN_S_BAR, OPEN_MB_BAR, MISSING_S_BAR = 3.0, 600.0, 2.0


class TableBenchmarkConfig(BenchmarkConfig):
    """Sizes of the synthetic table, and where it is kept."""

    full_size: ClassVar = {"repeats": 9, "opened_images": 1_000_000}

    images: PositiveInt = 16_384
    """Images, which are the rows of the one column."""
    classes: PositiveInt = 1000
    """Classes, which are the numbers in a row."""
    shard_images: PositiveInt = 2048
    """Images that are committed together."""
    slice_images: PositiveInt = 1000
    """Consecutive images of the slice whose read is counted in bytes."""
    dtype: Literal["float32", "float16"] = "float32"
    """Type that the table stores the numbers in; np.save gets the same."""
    opened_images: PositiveInt = 50_000
    """Images of the made-up table of 13 members that is opened; the bars are for 1,000,000."""
    repeats: PositiveInt = 5
    """Rounds; everything is timed in turn in each round, and medians are reported."""
    place: str | None = None
    """A folder or s3://bucket/prefix that the table is kept in; a temporary folder if not set."""
    storage: StorageConfig = StorageConfig()
    """How the place is reached, if it is on S3."""
    out: Path = Path("table-benchmark.json")
    """JSON file that the bars and figures are written to."""


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


def benchmark_table(
    words: Sequence[str], console: Console, is_full: bool = False
) -> BenchmarkReport:
    """Time commits and reads, print the figures, and write them to a file.

    Raises:
        ConfigError: A setting is unknown or has a wrong value, or the file cannot be written.
        TableError: The place of the table cannot be written.
    """
    config = read_config(TableBenchmarkConfig, words, is_full)
    report = measure(config, step_printer(console))
    console.print(Text(_describe(config, report.figures)), soft_wrap=True)
    return finish(report, config.out, console)


def measure(config: TableBenchmarkConfig, begin: Begin) -> BenchmarkReport:
    """Time commits and reads of a table, and of the same bytes without one.

    Raises:
        TableError: The place of the table cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="ens-bench-") as name:
        seconds, slice_ratio = _time_rounds(config, Path(name), begin)
        begin(f"opening a table of 13 x {config.opened_images:,} images")
        opening = measure_opening(config.opened_images, Path(name) / "opened")
    figures: dict[str, Any] = {
        "size_mb": config.images * config.classes * np.dtype(config.dtype).itemsize / 1e6,
        "seconds": seconds,
        "write_ratio": _ratio(seconds, "commit", _SAVED),
        "published_write_ratio": _ratio(seconds, "commit", _PUBLISHED),
        "publishing_ratio": _ratio(seconds, _PUBLISHED, _SAVED),
        "read_ratio": _ratio(seconds, "read", _LOADED),
        "checked_read_ratio": _ratio(seconds, "read", _CHECKED),
        "sha256_ratio": _ratio(seconds, _HASHED, _LOADED),
        "slice_bytes_ratio": slice_ratio,
        "opening": vars(opening),
    }
    bars = (
        Bar("commit, x a synced np.save", figures["write_ratio"], "<=", WRITE_BAR),
        Bar("read, x np.load and SHA-256", figures["checked_read_ratio"], "<=", CHECKED_READ_BAR),
        Bar("bytes read for a slice, x its own", slice_ratio, "<=", SLICE_BAR),
        Bar("open a table, s", opening.open_s, "<=", OPEN_S_BAR),
        Bar("memory of an open table, MB", opening.memory_bytes / 1e6, "<=", OPEN_MB_BAR),
        Bar("list what is missing, s", opening.missing_s, "<=", MISSING_S_BAR),
    )
    return BenchmarkReport(config.model_dump(mode="json", exclude={"storage"}), bars, figures)


def _describe(config: TableBenchmarkConfig, figures: Mapping[str, Any]) -> str:
    lines = []
    for name, values in figures["seconds"].items():
        median = statistics.median(values)
        rate = figures["size_mb"] / median
        lines.append(f"{name:38} {median * 1e3:9.1f} ms {rate:9.0f} MB/s")
    lines += [
        f"commit / np.save {figures['write_ratio']:.2f}; a file and a name that survive a crash, "
        f"without table or log, are {figures['publishing_ratio']:.2f} of it",
        f"read / np.load {figures['read_ratio']:.2f}; SHA-256 of bytes in memory, on "
        f"{os.cpu_count()} cores, is {figures['sha256_ratio']:.2f} of it",
        f"{figures['size_mb']:.0f} MB, medians of the ratios of {config.repeats} rounds",
    ]
    opening = figures["opening"]
    lines.append(
        f"13 x {config.opened_images:,} images in {opening['entries']} log entries, with "
        f"{opening['checkpoints']} checkpoints: opened in "
        f"{opening['open_s']:.2f} s and {opening['memory_bytes'] / 1e6:.0f} MB; listing what is "
        f"missing takes {opening['missing_s']:.2f} s"
    )
    return "\n".join(lines)


def _ratio(seconds: dict[str, list[float]], name: str, against: str) -> float:
    """Give the median over rounds of a ratio: what disturbs a round disturbs both."""
    return statistics.median(
        mine / its for mine, its in zip(seconds[name], seconds[against], strict=True)
    )


def _time_rounds(
    config: TableBenchmarkConfig, folder: Path, begin: Begin
) -> tuple[dict[str, list[float]], float]:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((config.images, config.classes), np.float32)
    ids = np.array([f"{i:08d}" for i in range(config.images)])
    member = ImportedMember("synthetic", {"classes": list(range(config.classes))})
    blocks = [
        LogitBlock(member.column, ids[part], rows[part], (), 0.0, 0)
        for start in range(0, config.images, config.shard_images)
        if (part := slice(start, start + config.shard_images))
    ]
    seconds: dict[str, list[float]] = {}
    slice_ratio = 0.0
    for number in range(config.repeats):
        begin(f"round {number + 1} of {config.repeats}")
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
        rows_read = _timed(seconds, "read", partial(_read, LogitTable(store), blocks))
        _timed(seconds, _LOADED, partial(_load, saved))
        _timed(seconds, _CHECKED, partial(_load, saved, is_checked=True))
        _timed(seconds, _HASHED, partial(_hash, config, blocks))
        slice_ratio = _read_slice(config, store, member, ids)
        if rows_read[0].shape != blocks[0].log_probabilities.shape:
            raise AssertionError
        for key in [*store.keys("columns"), *store.keys("log")]:
            store.remove(key)
        shutil.rmtree(saved)
        shutil.rmtree(published)
    return seconds, slice_ratio


def _commit(table: LogitTable, member: ImportedMember, blocks: list[LogitBlock]) -> None:
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
    config: TableBenchmarkConfig, store: Store, member: ImportedMember, ids: np.ndarray
) -> float:
    """Give the bytes that are read for some consecutive rows, over the bytes they take as stored."""
    counted = _Counted(store)
    table = LogitTable(counted)
    before = counted.bytes_read
    start = config.shard_images // 3
    slice_ids = ids[start : start + config.slice_images]
    table.read(member.column, slice_ids)
    own_bytes = len(slice_ids) * config.classes * np.dtype(config.dtype).itemsize
    return (counted.bytes_read - before) / own_bytes


def _timed(seconds: dict[str, list[float]], name: str, work: Callable[[], Any]) -> Any:
    began = time.perf_counter()
    value = work()
    seconds.setdefault(name, []).append(time.perf_counter() - began)
    return value
