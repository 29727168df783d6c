from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ensemble.errors import TableBusyError
from ensemble.members.member import Member
from ensemble.storage.local_store import LocalStore
from ensemble.storage.settings import S3Config
from ensemble.table.block import LogitBlock
from ensemble.table.lease import Lease, hold
from ensemble.table.log_entry import Dtype
from ensemble.table.logit_table import LogitTable
from ensemble.table.repair import collect, unreferenced
from ensemble.table.shard_writer import ShardWriter

MakeMember = Callable[..., Member]
MakeBlock = Callable[..., LogitBlock]

IDS = [f"image-{i:02d}" for i in range(12)]
# What differs between any two entries of the same shard.
OWN = {"writer", "attempt", "committed_at"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "table"


@pytest.fixture
def member(make_member: MakeMember) -> Member:
    return make_member("a")


def shards(root: Path) -> dict[str, bytes]:
    store = LocalStore(root)
    return {key: store.read(key) for key in store.keys("columns")}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_worker_writes_the_file_and_the_entry_that_the_driver_would(
    root: Path, member: Member, make_block: MakeBlock, tmp_path: Path, dtype: Dtype
) -> None:
    block = make_block(member, IDS)
    by_driver, by_worker = LogitTable(tmp_path / "driver", dtype), LogitTable(root, dtype)
    by_driver.commit(member, block)
    by_worker.count([(member, by_worker.writer(S3Config()).write(member, block))])
    assert shards(root) == shards(tmp_path / "driver")
    entries = [
        [commit.model_dump(exclude=OWN) for commit in LogitTable(place, dtype).commits()]
        for place in (root, tmp_path / "driver")
    ]
    assert entries[0] == entries[1]


def test_shard_counts_when_the_driver_has_counted_it(
    root: Path, member: Member, make_block: MakeBlock
) -> None:
    table = LogitTable(root)
    written = table.writer(S3Config()).write(member, make_block(member, IDS))
    assert LogitTable(root).missing(member.column, IDS) == tuple(IDS)
    table.count([(member, written)])
    assert LogitTable(root).missing(member.column, IDS) == ()


def test_driver_lost_before_its_first_entry_leaves_shards_that_the_next_one_uses(
    root: Path, member: Member, make_block: MakeBlock
) -> None:
    writer = LogitTable(root).writer(S3Config())
    blocks = [make_block(member, IDS[start : start + 4]) for start in (0, 4, 8)]
    for block in blocks:
        writer.write(member, block)
    left = shards(root)
    table = LogitTable(root)
    assert table.missing(member.column, IDS) == tuple(IDS)
    for block in blocks:
        table.count([(member, table.writer(S3Config()).write(member, block))])
    assert table.missing(member.column, IDS) == ()
    assert shards(root) == left


def test_call_made_again_writes_the_same_file_and_counts_once(
    root: Path, member: Member, make_block: MakeBlock
) -> None:
    table, block = LogitTable(root), make_block(member, IDS)
    for _ in range(2):
        table.count([(member, table.writer(S3Config()).write(member, block))])
    assert len(table.commits()) == len(shards(root)) == 1


def test_damaged_bytes_under_the_name_of_a_shard_are_replaced_by_the_worker(
    root: Path, member: Member, make_block: MakeBlock
) -> None:
    writer, block = LogitTable(root).writer(S3Config()), make_block(member, IDS)
    writer.write(member, block)
    ((name, content),) = shards(root).items()
    (root / name).write_bytes(b"something else")
    writer.write(member, block)
    assert shards(root) == {name: content}


def test_rows_that_are_there_already_are_left_out(
    root: Path, member: Member, make_block: MakeBlock
) -> None:
    table, whole = LogitTable(root), make_block(member, IDS)
    table.commit(member, whole.only(IDS[:4]))
    written = table.writer(S3Config()).write(member, whole)
    table.count([(member, written)])
    assert [commit.image_ids for commit in table.commits()] == [tuple(IDS[:4]), tuple(IDS[4:])]
    rows = LogitTable(root).read(member.column, IDS)
    assert np.array_equal(rows, whole.log_probabilities)
    assert unreferenced(LocalStore(root), table.commits()) == (written.commits[0].path,)


def test_block_without_images_writes_nothing(
    root: Path, member: Member, make_block: MakeBlock
) -> None:
    written = ShardWriter(str(root), S3Config(), "float32").write(member, make_block(member, []))
    assert written.commits == ()
    assert not root.exists()


def test_driver_that_lost_the_table_never_counts_what_its_workers_wrote(
    root: Path, member: Member, make_block: MakeBlock
) -> None:
    store = LocalStore(root)
    with hold(store) as lease:
        old = LogitTable(store, lease=Lease(store, 0, lease._holder, 60.0))
        written = old.writer(S3Config()).write(member, make_block(member, IDS[:4]))
        new = LogitTable(store, lease=lease)
        new.commit(member, make_block(member, IDS[4:8]))
        with pytest.raises(TableBusyError, match="of the commit log, written on"):
            old.count([(member, written)])
    assert LogitTable(root).missing(member.column, IDS[:8]) == tuple(IDS[:4])


def test_collection_spares_a_young_shard_and_shuts_out_the_driver_of_one_that_it_removes(
    root: Path, member: Member, make_block: MakeBlock
) -> None:
    store = LocalStore(root)
    old = LogitTable(store)
    written = old.writer(S3Config()).write(member, make_block(member, IDS))
    path = written.commits[0].path
    with hold(store) as lease:
        assert collect(store, lease).young == (path,)
        assert collect(store, lease, young_s=0.0).removed == (path,)
    with pytest.raises(TableBusyError, match="shuts earlier writers out"):
        old.count([(member, written)])
