"""From the last block of a large table to the first weights, and the memory of the driver until then."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from cluster.pool.block_keeper import BlockKeeper
from cluster.pool.host import HostSettings
from cluster.pool.pool import open_pool
from cluster.pool.synthetic_host import SyntheticHost
from cluster.search_task import Searcher
from cluster.settings import ClusterConfig
from ensemble.evaluation.reading import StreamingOutranking
from ensemble.images.index import ImageIndex
from ensemble.images.open import open_source
from ensemble.images.settings import FolderConfig
from ensemble.images.shard import ImageShard, plan_shards
from ensemble.inference.costs import CostCache, MemberCost
from ensemble.members.member import Member
from ensemble.search.settings import SearchConfig
from ensemble.storage.settings import S3Config
from ensemble.table.block import LogitBlock
from ensemble.table.logit_table import LogitTable
from jobs.benchmark.report import Begin
from jobs.benchmark.synthetic_members import synthetic_member
from jobs.benchmark.synthetic_pool import SyntheticPool

_SHARD_IMAGES = 128
_KEPT_SHARE = 0.25
_SEARCH = SearchConfig(kind="paper")


@dataclass(frozen=True)
class FirstWeights:
    """What one measurement found.

    Attributes:
        after_last_block_s: Seconds from the arrival of the last block to the first weights.
        search_s: Seconds of the same search on the same table, alone.
        driver_mb: Growth of the driver's memory from before the first block to the finished table, in MB.
        table_mb: Size of the outranking table, which the driver does hold, in MB.
        kept_mb: Most that blocks took of the object store at a time, in MB.
        read_from_files: Blocks that were read from their files, because the others took the room.
    """

    after_last_block_s: float
    search_s: float
    driver_mb: float
    table_mb: float
    kept_mb: float
    read_from_files: int

    @property
    def beyond_search_s(self) -> float:
        """Seconds that come on top of the search."""
        return self.after_last_block_s - self.search_s


class MadeUpHost(SyntheticHost):
    """Answers at once, with rows that are as contested as those of a real pool."""

    def __init__(self, settings: HostSettings) -> None:
        super().__init__(settings)
        self._columns: tuple[bytes, list[np.ndarray]] = (b"", [])

    def predict(
        self, member: Member, largest_batch: int | None, shard: ImageShard
    ) -> tuple[LogitBlock, int | None]:
        """Make the rows of all members of a shard when the first of them is asked for."""
        key = "".join(shard.image_ids.tolist()).encode()
        if self._columns[0] != key:
            labels = label_of(shard.image_ids.tolist(), len(member.classes))
            pool = SyntheticPool(member.parameters, len(member.classes), seed=int(labels[0]))
            self._columns = key, list(pool.columns(labels))
        number = int(member.name.removeprefix("m"))
        block = LogitBlock(
            column=member.column,
            image_ids=shard.image_ids,
            log_probabilities=self._columns[1][number],
            bad=shard.bad,
            seconds=0.001,
            forward_passes=len(shard),
        )
        return block, largest_batch


def label_of(image_ids: Sequence[str], num_classes: int) -> np.ndarray:
    """Give made-up images labels that a worker finds without being told."""
    numbers = [int(Path(image_id).stem) for image_id in image_ids]
    return np.array([number * 7919 % num_classes for number in numbers])


def measure_first_weights(
    sizes: tuple[int, int, int], hosts: int, folder: Path, begin: Begin
) -> FirstWeights:
    """Fill a table on an embedded Ray, and search it once its last block is there.

    Args:
        sizes: Numbers of members, images and classes.
        hosts: Host actors.
        folder: An empty folder for images and table.
        begin: Told what begins.
    """
    num_members, num_images, num_classes = sizes
    begin(f"writing {num_images:,} images of one pixel")
    source = FolderConfig(path=str(folder / "images"))
    index = _write_images(folder / "images", source, num_images, num_classes)
    members = tuple(
        replace(synthetic_member(number, num_members), classes=tuple(range(num_classes)))
        for number in range(num_members)
    )
    figures = {member.name: MemberCost(images_per_s=1e4) for member in members}
    config = ClusterConfig(device="cpu", hosts=hosts, shard_images=_SHARD_IMAGES, figures=figures)
    begin("starting Ray")
    with open_pool(config, source, CostCache(folder / "figures"), MadeUpHost) as pool:
        searcher = Searcher()
        searcher.prepare()
        table = LogitTable(folder / "table")
        writer = table.writer(S3Config())
        keeper = BlockKeeper(
            members, writer, ("probabilities",), config.object_store_mb * _KEPT_SHARE
        )
        streaming = StreamingOutranking(
            table, members, index, _SHARD_IMAGES, start_piece=keeper.start_piece
        )
        specs = plan_shards(index.image_ids.tolist(), _SHARD_IMAGES)
        work = [(spec, members) for spec in specs]
        begin(f"{num_members} members x {num_images:,} images x {num_classes:,} classes")
        before_mb, last = _own_mb(), 0.0
        for group in pool.predict_and_write(work, writer, keeper=keeper):
            last = time.perf_counter()
            table.count(group)
            streaming.read_landed()
        outranking = streaming.finish(index)
        driver_mb = _own_mb() - before_mb
        searcher.start(outranking, _SEARCH).result()
        after_last_block_s = time.perf_counter() - last
        begin("the search alone")
        started = time.perf_counter()
        searcher.start(outranking, _SEARCH).result()
        search_s = time.perf_counter() - started
    table_mb = sum(a.nbytes for a in vars(outranking).values() if isinstance(a, np.ndarray))
    return FirstWeights(
        after_last_block_s,
        search_s,
        driver_mb,
        table_mb / 1e6,
        keeper.largest_bytes / 1e6,
        keeper.read_from_files,
    )


def _own_mb() -> float:
    """Resident memory of this process alone, in MB: without what it maps of the object store."""
    lines = Path("/proc/self/status").read_text().splitlines()
    sizes = [line.split()[1] for line in lines if line.startswith("RssAnon:")]
    return int(sizes[0]) / 1e3


def _write_images(
    folder: Path, source: FolderConfig, num_images: int, num_classes: int
) -> ImageIndex:
    (folder / "any").mkdir(parents=True)
    Image.new("RGB", (1, 1)).save(folder / "any" / "0.png")
    pixel = (folder / "any" / "0.png").read_bytes()
    for number in range(num_images):
        (folder / "any" / f"{number}.png").write_bytes(pixel)
    index = open_source(source).index()
    labels = label_of(index.image_ids.tolist(), num_classes)
    return replace(index, labels=labels, classes=tuple(map(str, range(num_classes))))
