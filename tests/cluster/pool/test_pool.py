from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
import torch

from cluster.pool.pool import Pool
from cluster.pool.trainings import SpareWork
from cluster.search_task import Searcher
from ensemble.checkpoints.load import load_network
from ensemble.errors import MemberFailedError
from ensemble.images.shard import ImageShard, ShardSpec
from ensemble.inference.predict import predict
from ensemble.members.member import Member
from ensemble.outranking.builder import from_columns
from ensemble.search.fit import fit
from ensemble.search.settings import SearchConfig
from ensemble.storage.settings import S3Config
from ensemble.table.block import LogitBlock
from ensemble.table.logit_table import LogitTable
from ensemble.table.shard_writer import Receipt
from ensemble.training.recipe import RecipeConfig
from ensemble.training.task import TrainTask

from ..conftest import kill_hosts

pytestmark = pytest.mark.ray

Specs = tuple[ShardSpec, ...]
Blocks = dict[tuple[str, str], LogitBlock]


def _predict_all(
    pool: Pool, specs: Specs, members: tuple[Member, ...], kill_after: int | None = None
) -> Blocks:
    blocks: Blocks = {}
    for member, block in pool.predict([(spec, members) for spec in specs]):
        blocks[member.name, str(block.image_ids[0])] = block
        if len(blocks) == kill_after:
            assert kill_hosts() >= 1
    return blocks


def _expected(members: tuple[Member, ...], shards: list[ImageShard]) -> Blocks:
    return {
        (member.name, str(shard.image_ids[0])): predict(
            load_network(member), member, shard, torch.device("cpu")
        )
        for member in members
        for shard in shards
    }


def _assert_same(blocks: Blocks, expected: Blocks) -> None:
    assert blocks.keys() == expected.keys()
    for key, block in expected.items():
        np.testing.assert_array_equal(blocks[key].image_ids, block.image_ids)
        np.testing.assert_array_equal(blocks[key].log_probabilities, block.log_probabilities)


def test_blocks_equal_those_of_the_library(
    pool: Pool, specs: Specs, members: tuple[Member, ...], shards: list[ImageShard]
) -> None:
    before = pool.decoded_images
    _assert_same(_predict_all(pool, specs, members), _expected(members, shards))
    assert pool.decoded_images - before <= sum(len(spec.image_ids) for spec in specs)


def test_killed_workers_are_replaced_and_every_block_comes(
    pool: Pool, specs: Specs, members: tuple[Member, ...], shards: list[ImageShard]
) -> None:
    retries = pool.retries
    blocks = _predict_all(pool, specs, members, kill_after=3)
    _assert_same(blocks, _expected(members, shards))
    assert pool.retries > retries


def test_a_member_that_cannot_be_loaded_is_named_with_the_reason(
    pool: Pool, specs: Specs, members: tuple[Member, ...], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not weights")
    # Other weights are another column, which the host has not loaded yet.
    member = replace(members[0], checkpoint=broken, weights_sha256="0" * 64)
    with pytest.raises(
        MemberFailedError,
        match=r"predict of 'resnet' on 100 images from '.*' failed in attempt 1: .*broken\.safetensors",
    ):
        list(pool.predict([(specs[0], [member])]))


def test_work_goes_on_after_a_failed_member(
    pool: Pool, specs: Specs, members: tuple[Member, ...], shards: list[ImageShard]
) -> None:
    _assert_same(_predict_all(pool, specs[:2], members), _expected(members, shards[:2]))


def test_a_checkpoint_trained_on_the_pool_is_the_librarys_to_the_byte(
    pool: Pool, specs: Specs, task: TrainTask, members: tuple[Member, ...], tmp_path: Path
) -> None:
    elsewhere = replace(task, folder=tmp_path)
    assert [done.name for done in pool.train([elsewhere], specs)] == ["resnet"]
    assert elsewhere.checkpoint.read_bytes() == task.checkpoint.read_bytes()


def test_workers_predict_while_they_have_nothing_to_train_and_no_longer(
    pool: Pool, specs: Specs, task: TrainTask, members: tuple[Member, ...], tmp_path: Path
) -> None:
    list(pool.predict([(specs[0], members)]))  # costs are measured
    blocks: Blocks = {}

    def receive(done: Sequence[tuple[Member, LogitBlock | Receipt]]) -> None:
        for member, block in done:
            assert isinstance(block, LogitBlock)
            blocks[member.name, str(block.image_ids[0])] = block

    work = [(spec, members) for spec in (*specs, *specs)]
    elsewhere = replace(task, folder=tmp_path, recipe=RecipeConfig(epochs=2))
    spare = SpareWork(work, receive)
    assert [done.name for done in pool.train([elsewhere], specs, spare=spare)] == ["resnet"]
    # One of the two workers trained, and the other one had its members to predict with.
    assert blocks
    expected = _predict_all(pool, specs, members)
    _assert_same(blocks, {key: expected[key] for key in blocks})


@pytest.mark.parametrize("pause_s", [0.0, 1e6])
def test_blocks_that_workers_write_come_in_groups_that_wait_for_the_pause(
    pool: Pool, specs: Specs, members: tuple[Member, ...], tmp_path: Path, pause_s: float
) -> None:
    list(
        pool.predict([(specs[0], members)])
    )  # costs are measured, so that all calls are of one stage
    writer, work = LogitTable(tmp_path / "table").writer(S3Config()), [(s, members) for s in specs]
    groups = list(pool.predict_and_write(work, writer, pause_s=pause_s))
    cells = [
        (member.name, receipt.commits[0].image_ids[0]) for g in groups for member, receipt in g
    ]
    assert sorted(cells) == sorted((m.name, s.image_ids[0]) for s in specs for m in members)
    assert all(groups)
    if pause_s:
        # What is done first is given at once, and all else when nothing is under way any more.
        assert len(groups) <= 2


@ray.remote
class _Holder:
    """An actor that holds CPUs while it lives."""

    def holds(self) -> bool:
        return True


def test_a_search_finds_what_the_library_finds_though_others_hold_every_cpu(
    pool: Pool,
) -> None:
    left = ray.available_resources().get("CPU", 0.0)
    holder = _Holder.options(num_cpus=left).remote()
    assert ray.get(holder.holds.remote())
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(3, 200, 6))
    logs = (scores - np.log(np.exp(scores).sum(axis=2, keepdims=True))).astype(np.float32)
    table = from_columns(dict(zip("abc", logs, strict=True)), rng.integers(0, 6, 200))
    ensemble = Searcher().start(table, SearchConfig(kind="paper")).result().ensemble
    expected = fit(table, SearchConfig(kind="paper"))
    np.testing.assert_array_equal(ensemble.weights, expected.weights)
    assert ensemble.errors == expected.errors
    ray.kill(holder)
