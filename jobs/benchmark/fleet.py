"""A fleet of hosts that sleep, and a store that is slow to commit: what the driver adds. Linux only.

It runs in a process of its own, so that the imports and the memory of the driver can be told.
"""

import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from cluster.pool.pool import Pool, open_pool
from cluster.pool.sleeping_host import SleepingHost
from cluster.settings import ClusterConfig
from ensemble.images.open import open_source
from ensemble.images.settings import ParquetConfig
from ensemble.images.shard import ShardSpec, plan_shards
from ensemble.inference.costs import CostCache
from ensemble.members.member import Member
from ensemble.members.settings import Preprocessing
from ensemble.storage.local_store import LocalStore
from ensemble.storage.settings import S3Config
from ensemble.table.lease import hold
from ensemble.table.logit_table import LogitTable
from ensemble.views.settings import CenterView
from jobs.benchmark.process_memory import peak_bytes
from jobs.run.writers import count_pause_s

MEMBERS = 13
_PIXELS = 8


@dataclass(frozen=True)
class FleetSize:
    """What a fleet does.

    Attributes:
        hosts: Number of host processes.
        shards: Shards that each of 13 members predicts.
        shard_images: Images of a shard.
        classes: Numbers in a row.
        block_ms: Milliseconds that a host sleeps for a block.
        commit_s: Seconds that the store takes to make a log entry durable.
    """

    hosts: int
    shards: int
    shard_images: int = 16
    classes: int = 1000
    block_ms: int = 100
    commit_s: float = 0.1


@dataclass(frozen=True)
class FleetFigures:
    """What a fleet did, once all of its hosts had started.

    Attributes:
        hosts: Number of host processes.
        blocks: Number of blocks.
        blocks_per_s: Blocks a second, from the first that was counted on.
        entries: Number of log entries that counted them.
        driver_ms: CPU milliseconds of the driver's process for a block.
        driver_mb: Growth of the driver's peak memory, in MB.
        driver_imports_torch: Whether torch was imported in the driver.
    """

    hosts: int
    blocks: int
    blocks_per_s: float
    entries: int
    driver_ms: float
    driver_mb: float
    driver_imports_torch: bool


@dataclass(frozen=True)
class _SlowStore(LocalStore):
    """A folder that takes its time until a name is durable, as a store far away does."""

    commit_s: float = 0.0

    def sync(self, keys: Sequence[str]) -> None:
        """Sync some names, later."""
        time.sleep(self.commit_s)
        super().sync(keys)


def measure_fleet(size: FleetSize, folder: Path) -> FleetFigures:
    """Let a fleet fill a table, with a driver in a fresh process.

    Args:
        size: What it does.
        folder: Folder for images and table; it must not be there.
    """
    words = [sys.executable, "-m", "jobs.benchmark.fleet", json.dumps(asdict(size)), str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the driver ended with {done.returncode}:\n{done.stderr}")
    return FleetFigures(**json.loads(done.stdout.splitlines()[-1]))


def _members(size: FleetSize) -> list[Member]:
    return [
        Member(
            name=f"m{number}",
            architecture="sleeping",
            classes=tuple(range(size.classes)),
            checkpoint=Path("none"),
            weights_sha256=f"{number:064x}",
            head="none",
            parameters=size.block_ms,
            preprocessing=Preprocessing(size=_PIXELS, mean=(0, 0, 0), std=(1, 1, 1)),
            views=CenterView(),
            data_sha256="synthetic",
        )
        for number in range(MEMBERS)
    ]


def _source(images: int, folder: Path) -> ParquetConfig:
    """Write one tiny image many times."""
    folder.mkdir(parents=True)
    file = io.BytesIO()
    Image.new("RGB", (_PIXELS, _PIXELS)).save(file, "png")
    rows = {"image": [file.getvalue()] * images, "label": [n % 2 for n in range(images)]}
    pq.write_table(pa.table(rows), folder / "images.parquet")
    return ParquetConfig(path=folder / "images.parquet")


def _run(size: FleetSize, folder: Path) -> FleetFigures:
    source = _source((size.shards + size.hosts) * size.shard_images, folder)
    ids = open_source(source).index().image_ids.tolist()
    specs = plan_shards(ids, size.shard_images)
    members, costs = _members(size), CostCache(folder / "costs")
    config = ClusterConfig(
        device="cpu", hosts=size.hosts, shard_images=size.shard_images, object_store_mb=256
    )
    store = _SlowStore(folder / "table", size.commit_s)
    with open_pool(config, source, costs, SleepingHost) as pool, hold(store) as lease:
        table = LogitTable(store, lease=lease)
        # Hosts start one after the other on few cores, so work is thrown away until all are there.
        while len(pool.where()) < size.hosts:
            for _ in _fill(pool, table, specs[: size.hosts], members):
                pass
        before_mb, began_cpu, entries = peak_bytes() / 1e6, time.process_time(), 0
        times: list[tuple[float, int]] = []
        for blocks in _fill(pool, table, specs[size.hosts :], members):
            entries += 1
            times.append((time.perf_counter(), blocks))
    counted = sum(blocks for _, blocks in times)
    return FleetFigures(
        hosts=size.hosts,
        blocks=counted,
        blocks_per_s=(counted - times[0][1]) / (times[-1][0] - times[0][0]),
        entries=entries,
        driver_ms=(time.process_time() - began_cpu) / counted * 1e3,
        driver_mb=peak_bytes() / 1e6 - before_mb,
        driver_imports_torch="torch" in sys.modules,
    )


def _fill(
    pool: Pool, table: LogitTable, specs: Sequence[ShardSpec], members: Sequence[Member]
) -> Iterator[int]:
    """Count what hosts wrote, as a run does, and give the number of blocks of each group."""
    work = [(spec, members) for spec in specs]
    writer = table.writer(S3Config())
    for group in pool.predict_and_write(work, writer, pause_s=count_pause_s(table)):
        table.count(group)
        yield len(group)


if __name__ == "__main__":
    print(json.dumps(asdict(_run(FleetSize(**json.loads(sys.argv[1])), Path(sys.argv[2])))))
