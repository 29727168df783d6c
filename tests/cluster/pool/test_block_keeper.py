"""Contested pairs made where blocks lie: on an embedded Ray, with members that were really trained."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray

from cluster.pool.block_keeper import BlockKeeper
from cluster.pool.pool import Pool
from ensemble.errors import DamagedTableError
from ensemble.evaluation.reading import StreamingOutranking, build_outranking
from ensemble.images.index import ImageIndex
from ensemble.images.shard import ShardSpec, plan_shards
from ensemble.members.member import Member, split_views
from ensemble.outranking.table import OutrankingTable
from ensemble.storage.settings import S3Config
from ensemble.table.logit_table import LogitTable
from ensemble.views.settings import FlipViews

pytestmark = pytest.mark.ray

_SHARD_IMAGES = 100
_COMBINES = ("probabilities", "logs")


def _assert_same(found: OutrankingTable, expected: OutrankingTable) -> None:
    assert found.logs is not None
    assert expected.logs is not None
    for a, b in ((found, expected), (found.logs, expected.logs)):
        for name in ("labels", "indptr", "classes", "differences", "true_probabilities", "ranks"):
            assert getattr(a, name).tobytes() == getattr(b, name).tobytes(), name
        assert a.likely is not None
        assert b.likely is not None
        assert a.likely.steps.tobytes() == b.likely.steps.tobytes()


class _Counting(LogitTable):
    """A table that counts the rows that are read through it."""

    rows_read = 0

    def read(self, column, image_ids):  # type: ignore[no-untyped-def]
        self.rows_read += len(image_ids)
        return super().read(column, image_ids)


def _views(members: tuple[Member, ...]) -> tuple[Member, ...]:
    kept = replace(members[0], views=FlipViews(keep_views=True))
    return (*split_views(kept), members[1])


@pytest.mark.parametrize(("most_mb", "dtype"), [(64.0, "float32"), (0.005, "float16")])
def test_the_table_made_by_tasks_is_that_of_one_process_and_no_row_comes_to_the_driver(
    pool: Pool,
    specs: tuple[ShardSpec, ...],
    images: ImageIndex,
    members: tuple[Member, ...],
    tmp_path: Path,
    most_mb: float,
    dtype: str,
) -> None:
    views = _views(members)
    table = _Counting(tmp_path, dtype=dtype)
    # The last shard reaches beyond the images that are searched on.
    searched = images.take(np.arange(len(images) - 30))
    writer = table.writer(S3Config())
    keeper = BlockKeeper(views, writer, _COMBINES, most_mb)
    streaming = StreamingOutranking(
        table, views, searched, _SHARD_IMAGES, _COMBINES, keeper.start_piece
    )
    work = [(spec, views) for spec in specs]
    for group in pool.predict_and_write(work, writer, keeper=keeper):
        table.count(group)
        streaming.read_landed()
    found = streaming.finish(searched)
    assert table.rows_read == 0
    assert 0 < keeper.largest_bytes <= most_mb * (1 << 20)
    assert keeper.size_bytes == 0
    assert (keeper.read_from_files > 0) == (most_mb < 1)
    _assert_same(found, build_outranking(table, views, searched, combines=_COMBINES))


def test_what_an_earlier_run_left_is_read_by_the_tasks_too(
    pool: Pool,
    specs: tuple[ShardSpec, ...],
    images: ImageIndex,
    members: tuple[Member, ...],
    tmp_path: Path,
) -> None:
    table = _Counting(tmp_path)
    writer = table.writer(S3Config())
    # In other shards, and so that the new ones have some of their images and lack others.
    earlier = [(spec, members[:1]) for spec in plan_shards(images.image_ids[:360].tolist(), 90)]
    for group in pool.predict_and_write(earlier, writer):
        table.count(group)
    keeper = BlockKeeper(members, writer, _COMBINES, 64.0)
    keeper.learn(specs, table.commits())
    streaming = StreamingOutranking(
        table, members, images, _SHARD_IMAGES, _COMBINES, keeper.start_piece
    )
    lacking = {
        spec: [m for m in members if table.missing(m.column, spec.image_ids)] for spec in specs
    }
    assert [len(some) for some in lacking.values()] == [1, 1, 1, 2, 2, 2]
    for group in pool.predict_and_write(list(lacking.items()), writer, keeper=keeper):
        table.count(group)
        streaming.read_landed()
    found = streaming.finish(images)
    assert table.rows_read == 0
    assert keeper.size_bytes == 0
    assert keeper.read_from_files == 4
    _assert_same(found, build_outranking(table, members, images, combines=_COMBINES))


@ray.remote(num_cpus=0)
class _Gone:
    """A worker that is dead before it gives the rows."""

    def rows(self) -> None: ...


def test_blocks_that_were_lost_are_read_from_their_files_and_damage_is_named(
    pool: Pool,
    specs: tuple[ShardSpec, ...],
    images: ImageIndex,
    members: tuple[Member, ...],
    tmp_path: Path,
) -> None:
    table = LogitTable(tmp_path)
    writer = table.writer(S3Config())
    part = images.take(np.arange(_SHARD_IMAGES))
    receipts = []
    for group in pool.predict_and_write([(specs[0], members)], writer):
        table.count(group)
        receipts += group
    gone = _Gone.remote()
    ray.kill(gone)
    keepers = [BlockKeeper(members, writer, _COMBINES, most_mb) for most_mb in (64.0, 0.0)]
    for keeper in keepers:
        for member, receipt in receipts:
            keeper.keep(specs[0], [member], [receipt], gone.rows.remote())
    lost = keepers[0].start_piece(part, 0)
    assert lost is not None
    expected = build_outranking(table, members, part, combines=_COMBINES)
    assert lost.result().contested[0].differences.tobytes() == expected.differences.tobytes()
    assert keepers[0].size_bytes == 0
    assert keepers[0].start_piece(part, 0) is None  # it was let go
    for path in tmp_path.glob("columns/*/*.arrow"):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    damaged = keepers[1].start_piece(part, 0)
    assert damaged is not None
    with pytest.raises(DamagedTableError, match="is damaged"):
        damaged.result()
