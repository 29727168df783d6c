"""Stores on S3; members that are values only, blocks made of their ids; a tiny pool really trained;
and pools that provoke ties, underflow and broken rows, with the brute force they are judged by.
"""

import gc
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

import jaxtyping
import numpy as np
import pytest
import torch

import ensemble.images.sources
import ensemble.models
from ensemble.checkpoints.load import load_member, load_network
from ensemble.images.open import decode_shard
from ensemble.images.settings import DigitsConfig, SplitConfig
from ensemble.images.shard import BadImage, ImageShard, plan_shards
from ensemble.images.sources.digits import open_source
from ensemble.images.split import Splits, split
from ensemble.inference.predict import predict
from ensemble.members.member import Member
from ensemble.storage.s3_store import S3Store
from ensemble.storage.settings import StorageConfig
from ensemble.table.block import LogitBlock
from ensemble.table.logit_table import LogitTable
from ensemble.training.member import train_member
from ensemble.training.recipe import RecipeConfig
from ensemble.training.task import TrainTask
from ensemble.views.settings import CenterView, ShiftsAndScales, Views

from .. import members
from .judged import CLUSTERS, Judged, images

MakeMember = Callable[..., Member]
MakeBlock = Callable[..., LogitBlock]

CPU = torch.device("cpu")
# As little as teaches the first member to tell both label clusters apart.
TINY = RecipeConfig(epochs=3, augmentation=None)


@pytest.fixture(scope="session", autouse=True)
def _modules_imported_by_name() -> None:
    """Import now what the library imports by name when it is needed.

    Python 3.11 can fail to parse a module while another thread, as that of a server, parses one too.
    """
    for package in (ensemble.models, ensemble.images.sources):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)


@pytest.fixture
def shapes_unchecked() -> Iterator[None]:
    """Let arrays reach our own checks: a user runs without the type checks of the tests."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def make_member() -> MakeMember:
    """A member by its name, without weights."""
    return members.make_member


@pytest.fixture(scope="session")
def make_block() -> MakeBlock:
    """A block whose rows depend on the column and the id alone, as those of a network do."""

    def make(member: Member, image_ids: Sequence[str], bad: Sequence[str] = ()) -> LogitBlock:
        rows = [_row(member, image_id) for image_id in image_ids]
        return LogitBlock(
            column=member.column,
            image_ids=np.array(image_ids, np.str_),
            log_probabilities=np.array(rows, np.float32).reshape(-1, len(member.classes)),
            bad=tuple(BadImage(image_id, "torn in two") for image_id in bad),
            seconds=0.5,
            forward_passes=len(image_ids),
        )

    return make


def _row(member: Member, image_id: str) -> np.ndarray:
    seed = int(sha256(f"{member.column} {image_id}".encode()).hexdigest()[:8], 16)
    logits = np.random.default_rng(seed).normal(scale=2, size=len(member.classes))
    return logits - np.log(np.exp(logits).sum())


@pytest.fixture(scope="session")
def judged(tmp_path_factory: pytest.TempPathFactory, make_block: MakeBlock) -> Judged:
    """The table of `tests/ensemble/judged.py`: read it only."""
    pool = tuple(members.make_member(name, 4) for name in ("first", "second"))
    subclassifiers = tuple(
        members.make_member(f"sub {number}", 2, classes=classes)
        for number, classes in enumerate(CLUSTERS)
    )
    table = LogitTable(tmp_path_factory.mktemp("judged"))
    image_ids = images().image_ids.tolist()
    for member in (*pool, *subclassifiers):
        for start in range(0, len(image_ids), 700):
            table.commit(member, make_block(member, image_ids[start : start + 700]))
    return Judged(table, pool, subclassifiers)


@dataclass(frozen=True)
class TinyRun:
    """Two members and two sub-classifiers of the first, trained for three epochs, and their table."""

    splits: Splits
    shards: tuple[ImageShard, ...]
    members: tuple[Member, ...]
    subclassifiers: tuple[Member, ...]
    table: LogitTable
    decode: Callable[[str], np.ndarray]

    def pixels(self, image_ids: Sequence[str]) -> list[np.ndarray]:
        return [self.decode(image_id) for image_id in image_ids]


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    folder = tmp_path_factory.mktemp("tiny")
    source = open_source(DigitsConfig())
    index = source.index()
    splits = split(index, SplitConfig(train=120, search=90, test=100), seed=0)
    shards = tuple(
        decode_shard(source, spec) for spec in plan_shards(splits.train.image_ids.tolist(), 50)
    )

    def member(task: TrainTask, views: Views) -> Member:
        return load_member(task.name, train_member(task, shards, CPU), views, index.sha256)

    members = tuple(
        member(
            TrainTask(name, name, TINY, seed, splits.train, tuple(range(10)), folder),
            views,
        )
        for seed, (name, views) in enumerate(
            {"resnet14_small": CenterView(), "alexnet_small": ShiftsAndScales(shift=1)}.items()
        )
    )
    subclassifiers = tuple(
        member(
            TrainTask.of_subclassifier(
                members[0], splits.train, classes, TINY, seed=3, folder=folder
            ),
            members[0].views,
        )
        for classes in ((0, 2, 4, 6, 8, 9), (1, 3, 5, 7))
    )
    table = LogitTable(folder / "table")
    images = [*splits.search.image_ids.tolist(), *splits.test.image_ids.tolist()]
    for spec in plan_shards(images, 64):
        shard = decode_shard(source, spec)
        for one in (*members, *subclassifiers):
            table.commit(one, predict(load_network(one), one, shard, CPU))
    return TinyRun(splits, shards, members, subclassifiers, table, source.decode)


MakeStore = Callable[..., S3Store]


@pytest.fixture
def make_store(request: pytest.FixtureRequest, aws_keys: None) -> Iterator[MakeStore]:
    """A store below a prefix of the test's own."""
    prefix = request.node.name.translate({ord(c): "-" for c in "[]() /"})

    def make(port: int, **settings: object) -> S3Store:
        config = StorageConfig.model_validate({"endpoint": f"http://127.0.0.1:{port}"} | settings)
        return S3Store(f"s3://tables/{prefix}", config)

    gc.freeze()  # only what the test makes is looked through: everything there is takes a second
    yield make
    # s3fs closes its connections in a finaliser: here, and not in the middle of another test.
    gc.collect()
    gc.unfreeze()


Pool = tuple[np.ndarray, np.ndarray]  # log-probabilities [member, image, class], labels [image]


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def _logs(kind: str, rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    members, images, classes = shape
    random = _log_softmax(rng.normal(scale=2, size=shape))
    with np.errstate(divide="ignore"):
        if kind == "eighths":
            return np.log(rng.integers(0, 3, size=shape) / 8)
        if kind == "one_hot":
            return np.log(np.eye(classes)[rng.integers(0, classes, size=(members, images))])
        if kind == "constant":
            return np.full(shape, -np.log(classes))
        if kind == "duplicates":
            return np.repeat(random[:1], members, axis=0)
        if kind == "tiny":
            return np.log(rng.integers(0, 4, size=shape) * 2.0**-31)
    if kind in ("broken", "half_broken"):
        for value in (np.nan, -np.nan, np.inf, -np.inf):
            where = tuple(rng.integers(0, size, size=2) for size in shape)
            random[where] = value
    return random


@pytest.fixture(scope="session")
def make_pool() -> Callable[..., Pool]:
    def make(kind: str, seed: int, shape: tuple[int, int, int]) -> Pool:
        rng = np.random.default_rng(seed)
        dtypes = {"half": np.float16, "half_broken": np.float16, "double": np.float64}
        logs = _logs(kind, rng, shape).astype(dtypes.get(kind, np.float32))
        return logs, rng.integers(0, shape[2], size=shape[1])

    return make


@pytest.fixture(scope="session")
def brute_force() -> Callable[..., np.ndarray]:
    """Tell which images are top-k errors, in int64 and with every class of every image."""

    def is_error(logs: np.ndarray, labels: np.ndarray, weights: np.ndarray, k: int) -> np.ndarray:
        logs = logs.astype(np.float64)[weights > 0]
        broken = (np.isnan(logs) | np.isposinf(logs)).any(axis=(0, 2))
        logs[~(logs < np.inf)] = 0
        integers = np.rint(np.exp(logs) * 2**30).astype(np.int64)
        scores = np.tensordot(weights[weights > 0], integers, axes=1)
        order = np.argsort(-scores, axis=1, kind="stable")
        position = (order == labels[:, None]).argmax(axis=1)
        return (position >= k) | broken

    return is_error
