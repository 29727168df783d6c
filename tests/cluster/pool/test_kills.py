"""SIGKILL of host actors at seeded blocks, with a table behind the pool that the hosts write."""

import os
import random
import signal
from pathlib import Path

import pytest

from cluster.pool.pool import Pool
from cluster.scheduling.work_queue import CALLS_IN_FLIGHT
from ensemble.images.index import ImageIndex
from ensemble.images.shard import plan_shards
from ensemble.members.member import Member
from ensemble.storage.local_store import LocalStore
from ensemble.storage.settings import S3Config
from ensemble.table.logit_table import LogitTable

from ..conftest import host_pids

pytestmark = pytest.mark.ray

Members = tuple[Member, ...]


def _fill(pool: Pool, images: ImageIndex, members: Members, root: Path, kill_at: set[int]) -> int:
    """Fill a table, and kill one host after each of some blocks; tell how many were killed."""
    table, killed = LogitTable(root), 0
    work = [(spec, members) for spec in plan_shards(images.image_ids.tolist(), 30)]
    done = 0
    for group in pool.predict_and_write(work, table.writer(S3Config())):
        table.count(group)
        for number in range(done, done + len(group)):
            if number in kill_at and (pids := sorted(host_pids())):
                os.kill(pids[number % len(pids)], signal.SIGKILL)
                killed += 1
        done += len(group)
    return killed


def _shards(root: Path) -> dict[str, bytes]:
    store = LocalStore(root)
    return {key: store.read(key) for key in store.keys("columns")}


def _kill(pool: Pool, images: ImageIndex, members: Members, folder: Path, kills: int) -> int:
    rng, killed, round_ = random.Random(kills), 0, 0
    undisturbed = LogitTable(folder / "undisturbed")
    work = [(spec, members) for spec in plan_shards(images.image_ids.tolist(), 30)]
    for member, block in pool.predict(work):
        undisturbed.commit(member, block)
    expected = _shards(folder / "undisturbed")
    while killed < kills:
        round_ += 1
        retries = pool.retries
        # Apart, so that no block meets its third death.
        kill_at = set(rng.sample(range(0, 36, 6), min(4, kills - killed)))
        here = _fill(pool, images, members, folder / str(round_), kill_at)
        assert _shards(folder / str(round_)) == expected
        assert pool.retries - retries <= here * CALLS_IN_FLIGHT["predict"]
        killed += here
    return killed


def test_killed_hosts_change_no_byte_of_the_table(
    pool: Pool, images: ImageIndex, members: Members, tmp_path: Path
) -> None:
    assert _kill(pool, images, members, tmp_path, 2) >= 2


@pytest.mark.nightly
def test_eighty_killed_hosts_change_no_byte_of_the_table(
    pool: Pool, images: ImageIndex, members: Members, tmp_path: Path
) -> None:
    killed = _kill(pool, images, members, tmp_path, 80)
    print(f"{killed} hosts killed, {pool.retries} calls repeated")
    assert killed >= 80
