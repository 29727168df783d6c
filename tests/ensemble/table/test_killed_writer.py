"""SIGKILL of a process that does nothing but commit: most kills meet a commit under way.

It writes shards as a driver does, or as workers do and then counts a group of them as their driver does.
"""

import os
import random
import signal
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import pytest

from ensemble.members.member import Member
from ensemble.storage.local_store import LocalStore
from ensemble.storage.settings import S3Config
from ensemble.table.block import LogitBlock
from ensemble.table.lease import hold
from ensemble.table.logit_table import LogitTable
from ensemble.table.repair import collect, find_faults, unreferenced

MakeMember = Callable[..., Member]
MakeBlock = Callable[..., LogitBlock]

BLOCKS = 10
GROUP = 2


def _write(root: Path, member: Member, blocks: list[LogitBlock], as_worker: bool) -> None:
    with hold(LocalStore(root)) as lease:
        table = LogitTable(LocalStore(root), lease=lease)
        if not as_worker:
            for block in blocks:
                table.commit(member, block)
            return
        writer = table.writer(S3Config())
        for start in range(0, len(blocks), GROUP):
            group = blocks[start : start + GROUP]
            table.count([(member, writer.write(member, block)) for block in group])


def _kill_until_full(
    root: Path, member: Member, blocks: list[LogitBlock], rng: random.Random, as_worker: bool
) -> tuple[int, int]:
    """Kill writers until one gets through; tell how many died, and what they left over."""
    kills = leftovers = 0
    store = LocalStore(root)
    while LogitTable(store).missing(member.column, [i for b in blocks for i in b.image_ids]):
        before = list(store.keys("log"))
        writer = get_context("fork").Process(target=_write, args=(root, member, blocks, as_worker))
        writer.start()
        assert writer.pid is not None
        deadline = time.monotonic() + 60
        while len(list(store.keys("log"))) == len(before) and writer.is_alive():
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.02))
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        kills += writer.exitcode == -signal.SIGKILL
        assert find_faults(store) == ()
        left = (*store.leftovers(), *unreferenced(store, LogitTable(store).commits()))
        leftovers += len(left)
        if rng.random() < 0.5:
            with hold(store) as lease:
                assert set(collect(store, lease, young_s=0.0).removed) == set(left)
    with hold(store) as lease:
        collect(store, lease, young_s=0.0)
    return kills, leftovers


@pytest.mark.parametrize(
    "tables", [1, pytest.param(15, marks=pytest.mark.nightly)], ids=["once", "often"]
)
@pytest.mark.parametrize(
    "as_worker", [False, pytest.param(True, marks=pytest.mark.nightly)], ids=["driver", "worker"]
)
def test_killed_writers_leave_a_table_that_the_next_one_finishes_to_the_byte(
    tmp_path: Path, make_member: MakeMember, make_block: MakeBlock, tables: int, as_worker: bool
) -> None:
    member, rng = make_member("wide", num_classes=50), random.Random(tables)
    ids = [f"{i:05d}" for i in range(20 * BLOCKS)]
    blocks = [make_block(member, ids[i : i + 20]) for i in range(0, len(ids), 20)]
    _write(tmp_path / "undisturbed", member, blocks, as_worker=False)
    undisturbed = LocalStore(tmp_path / "undisturbed")
    expected = {key: undisturbed.read(key) for key in undisturbed.keys("columns")}
    kills = leftovers = 0
    for number in range(tables):
        store = LocalStore(tmp_path / f"{number}")
        died, left = _kill_until_full(store.root, member, blocks, rng, as_worker)
        kills, leftovers = kills + died, leftovers + left
        assert {key: store.read(key) for key in store.keys("columns")} == expected
        assert len(LogitTable(store).commits()) == BLOCKS
        print(f"{kills} writers killed, {leftovers} files left over, collected or used", flush=True)
    assert kills >= 2 * tables
