"""Blocks that kill their worker: on an embedded Ray, with workers that kill themselves."""

import os
import signal
import sys
from collections.abc import Iterator

import pytest
from ray import cloudpickle

from cluster.pool.pool import Pool, open_pool
from cluster.pool.synthetic_host import SyntheticHost
from cluster.settings import ClusterConfig
from ensemble.errors import MemberFailedError
from ensemble.images.open import open_source
from ensemble.images.settings import DigitsConfig
from ensemble.images.shard import ImageShard, plan_shards
from ensemble.inference.costs import CostCache, MemberCost
from ensemble.members.member import Member
from ensemble.table.block import LogitBlock

from ...members import make_member

pytestmark = pytest.mark.ray

IDS = open_source(DigitsConfig()).index().image_ids[:200].tolist()
SPECS = plan_shards(IDS, 50)
DEADLY = IDS[60]


class Fragile(SyntheticHost):
    """A worker that dies of one image, where the member is fragile, or of all of them."""

    def predict(
        self, member: Member, largest_batch: int | None, shard: ImageShard
    ) -> tuple[LogitBlock, int | None]:
        is_deadly = member.name == "fragile" and DEADLY in shard.image_ids.tolist()
        if is_deadly or member.name == "hopeless":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().predict(member, largest_batch, shard)


SOUND, FRAGILE, HOPELESS = (make_member(name, 10) for name in ("sound", "fragile", "hopeless"))


@pytest.fixture(scope="module")
def fragile_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    # A worker cannot import a test.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    figures = {member.name: MemberCost(images_per_s=100) for member in (SOUND, FRAGILE, HOPELESS)}
    config = ClusterConfig(device="cpu", hosts=2, object_store_mb=128, figures=figures)
    cache = CostCache(tmp_path_factory.mktemp("figures"))
    with open_pool(config, DigitsConfig(), cache, Fragile) as opened:
        yield opened


def _predict(pool: Pool, *members: Member) -> set[tuple[str, str]]:
    work = [(spec, members) for spec in SPECS]
    return {(m.name, str(block.image_ids[0])) for m, block in pool.predict(work)}


def test_a_block_that_kills_its_worker_three_times_is_quarantined_and_all_others_come(
    fragile_pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    blocks = _predict(fragile_pool, SOUND, FRAGILE)
    all_blocks = {(m.name, spec.image_ids[0]) for m in (SOUND, FRAGILE) for spec in SPECS}
    assert blocks == all_blocks - {("fragile", SPECS[1].image_ids[0])}
    (quarantined,) = fragile_pool.quarantined
    assert (quarantined.member, quarantined.shard) == (FRAGILE, SPECS[1])
    # Another block of the same worker may fail with it, and is made again.
    block = f"predict of 'fragile' on 50 images from {SPECS[1].image_ids[0]!r}"
    lines = [line for line in caplog.messages if block in line]
    assert [line.split("attempt ")[1] for line in lines] == [
        "1 of 3; replace the worker and retry",
        "2 of 3; replace the worker and retry",
        "3 of 3; quarantine this block and go on",
    ]


def test_a_member_that_kills_its_worker_on_every_shard_ends_the_run(fragile_pool: Pool) -> None:
    with pytest.raises(MemberFailedError, match=r"predict of 'hopeless' on .* failed in attempt 3"):
        _predict(fragile_pool, HOPELESS)
