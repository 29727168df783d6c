"""A real pool on a real embedded Ray, with members that were trained for one epoch."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cluster.pool.pool import Pool, open_pool
from cluster.settings import ClusterConfig
from ensemble.checkpoints.load import load_member
from ensemble.images.index import ImageIndex
from ensemble.images.open import decode_shard, open_source
from ensemble.images.settings import DigitsConfig
from ensemble.images.shard import ImageShard, ShardSpec, plan_shards
from ensemble.inference.costs import CostCache
from ensemble.members.member import Member
from ensemble.training.member import train_member
from ensemble.training.recipe import RecipeConfig
from ensemble.training.task import TrainTask
from ensemble.views.settings import CenterView


def kill_hosts() -> int:
    """SIGKILL every host process below this one; tell how many there were."""
    pids = list(host_pids())
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return len(pids)


def host_pids() -> Iterator[int]:
    """Host processes below this one."""
    for pid in _descendants(os.getpid()):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if command.startswith("ray::Host"):
            yield pid


def _descendants(pid: int) -> Iterator[int]:
    children = Path(f"/proc/{pid}/task").glob("*/children")
    for child in {int(c) for path in children for c in path.read_text().split()}:
        yield child
        yield from _descendants(child)


@pytest.fixture(scope="session")
def images() -> ImageIndex:
    index = open_source(DigitsConfig()).index()
    return index.take(torch.arange(0, 600).numpy())


@pytest.fixture(scope="session")
def specs(images: ImageIndex) -> tuple[ShardSpec, ...]:
    return plan_shards(images.image_ids.tolist(), 100)


@pytest.fixture(scope="session")
def shards(specs: tuple[ShardSpec, ...]) -> list[ImageShard]:
    source = open_source(DigitsConfig())
    return [decode_shard(source, spec) for spec in specs]


@pytest.fixture(scope="session")
def task(images: ImageIndex, tmp_path_factory: pytest.TempPathFactory) -> TrainTask:
    return TrainTask(
        name="resnet",
        architecture="resnet14_small",
        recipe=RecipeConfig(epochs=1),
        seed=0,
        images=images.take(torch.arange(0, 64).numpy()),
        classes=tuple(range(10)),
        folder=tmp_path_factory.mktemp("cache"),
    )


@pytest.fixture(scope="session")
def members(task: TrainTask, images: ImageIndex, shards: list[ImageShard]) -> tuple[Member, ...]:
    tasks = (task, replace(task, name="mobilenet", architecture="mobilenet_v2_small"))
    torch.set_num_threads(1)
    return tuple(
        load_member(
            each.name,
            train_member(each, shards, torch.device("cpu")),
            CenterView(),
            images.sha256,
        )
        for each in tasks
    )


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    config = ClusterConfig(device="cpu", hosts=2, object_store_mb=128)
    cache = CostCache(tmp_path_factory.mktemp("figures"))
    with open_pool(config, DigitsConfig(), cache) as opened:
        yield opened
