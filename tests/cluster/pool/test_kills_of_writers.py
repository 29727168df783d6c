"""SIGKILL of hosts that have written a block: before they tell the driver, and before the driver counts it."""

import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from ray import cloudpickle

from cluster.pool.pool import Pool, open_pool
from cluster.pool.synthetic_host import SyntheticHost
from cluster.settings import ClusterConfig
from ensemble.images.open import open_source
from ensemble.images.settings import DigitsConfig
from ensemble.images.shard import ImageShard, plan_shards
from ensemble.inference.costs import CostCache, MemberCost
from ensemble.members.member import Member
from ensemble.storage.local_store import LocalStore
from ensemble.storage.settings import S3Config
from ensemble.table.lease import hold
from ensemble.table.logit_table import LogitTable
from ensemble.table.repair import collect, find_faults
from ensemble.table.shard_writer import Receipt, ShardWriter

from ...members import make_member
from ..conftest import host_pids

pytestmark = [pytest.mark.ray, pytest.mark.nightly]

IDS = open_source(DigitsConfig()).index().image_ids[:600].tolist()
SPECS = plan_shards(IDS, 40)
MEMBERS = tuple(make_member(f"m{number}", 10) for number in range(6))
DEATHS = "deaths"
KILLS = 30


class HostThatDies(SyntheticHost):
    """A worker that dies once of every other block: it is durable then, and nobody knows."""

    def predict_and_write(
        self, writer: ShardWriter, member: Member, largest_batch: int | None, shard: ImageShard
    ) -> tuple[Receipt, int | None]:
        value = super().predict_and_write(writer, member, largest_batch, shard)
        name = sha256(f"{member.column} {shard.image_ids[0]}".encode()).hexdigest()
        deaths = Path(writer.place).parent / DEATHS
        if deaths.is_dir() and int(name, 16) % 2 and not (deaths / name).exists():
            (deaths / name).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return value


@pytest.fixture(scope="module")
def mortal_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    # A worker cannot import a test.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    figures = {member.name: MemberCost(images_per_s=100) for member in MEMBERS}
    config = ClusterConfig(device="cpu", hosts=2, object_store_mb=128, figures=figures)
    cache = CostCache(tmp_path_factory.mktemp("figures"))
    with open_pool(config, DigitsConfig(), cache, HostThatDies) as opened:
        yield opened


def fill(pool: Pool, root: Path, before_count: Callable[[], None] = lambda: None) -> LogitTable:
    store = LocalStore(root)
    with hold(store) as lease:
        table = LogitTable(store, lease=lease)
        work = [(spec, MEMBERS) for spec in SPECS]
        for group in pool.predict_and_write(work, table.writer(S3Config())):
            before_count()
            table.count(group)
    return table


def shards(root: Path) -> dict[str, bytes]:
    store = LocalStore(root)
    return {key: store.read(key) for key in store.keys("columns")}


def check(root: Path, undisturbed: Path) -> None:
    """The same bytes, each counted once, and nothing left over."""
    store = LocalStore(root)
    assert shards(root) == shards(undisturbed)
    commits = LogitTable(store).commits()
    assert sum(commit.rows for commit in commits) == len(IDS) * len(MEMBERS)
    assert len(commits) == len({commit.path for commit in commits}) == len(SPECS) * len(MEMBERS)
    assert find_faults(store) == ()
    with hold(store) as lease:
        collect(store, lease, young_s=0.0)
    assert shards(root) == shards(undisturbed)
    assert store.leftovers() == ()


def test_hosts_killed_between_staging_and_returning_change_no_byte(
    mortal_pool: Pool, tmp_path: Path
) -> None:
    fill(mortal_pool, tmp_path / "undisturbed" / "table")
    (tmp_path / DEATHS).mkdir()
    fill(mortal_pool, tmp_path / "table")
    kills = len(list((tmp_path / DEATHS).iterdir()))
    print(f"{kills} hosts killed between staging and returning")
    assert kills >= KILLS
    assert mortal_pool.quarantined == ()
    check(tmp_path / "table", tmp_path / "undisturbed" / "table")


def test_hosts_killed_between_returning_and_the_log_entry_change_no_byte(
    mortal_pool: Pool, tmp_path: Path
) -> None:
    fill(mortal_pool, tmp_path / "undisturbed" / "table")
    rng, killed, tables = random.Random(0), 0, 0
    groups = 0

    def kill_sometimes() -> None:
        nonlocal killed, groups
        groups += 1
        # Seldom, so that no block meets its third death.
        if groups % 6 == 0 and (pids := sorted(host_pids())):
            os.kill(rng.choice(pids), signal.SIGKILL)
            killed += 1

    while killed < KILLS:
        tables += 1
        fill(mortal_pool, tmp_path / f"{tables}" / "table", kill_sometimes)
        assert mortal_pool.quarantined == ()
        check(tmp_path / f"{tables}" / "table", tmp_path / "undisturbed" / "table")
        print(f"{killed} hosts killed between returning and the log entry", flush=True)
