from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ensemble.checkpoints.load import load_member, load_network
from ensemble.errors import CheckpointError
from ensemble.images.open import decode_shard
from ensemble.images.settings import DigitsConfig
from ensemble.images.shard import ImageShard, plan_shards
from ensemble.images.sources.digits import open_source
from ensemble.members.member import Member
from ensemble.members.settings import Preprocessing
from ensemble.training.features import feature_function
from ensemble.training.member import train_member
from ensemble.training.recipe import RecipeConfig, ValidationConfig
from ensemble.training.task import Start, TrainTask, hold_out
from ensemble.views.settings import CenterView

CPU = torch.device("cpu")
SOURCE = open_source(DigitsConfig())
IMAGES = SOURCE.index().take(np.arange(60))
HEAD = RecipeConfig(
    epochs=4,
    batch_size=16,
    head_only=True,
    augmentation=None,
    optimizer={"kind": "sgd", "lr": 0.01},
)


def shards() -> Sequence[ImageShard]:
    return [decode_shard(SOURCE, spec) for spec in plan_shards(IMAGES.image_ids.tolist(), 60)]


def load(task: TrainTask, shards: Sequence[ImageShard]) -> Member:
    return load_member(task.name, train_member(task, shards, CPU), CenterView(), "d" * 64)


@pytest.fixture
def task(tmp_path: Path) -> TrainTask:
    plain = TrainTask(
        "mine",
        "resnet14_small",
        RecipeConfig(epochs=1, augmentation=None),
        3,
        IMAGES,
        tuple(range(10)),
        tmp_path,
    )
    start = Start(load(plain, shards()), new_head=True)
    return replace(plain, recipe=HEAD, start=start)


def test_head_alone_is_trained_and_a_second_time_needs_no_image(task: TrainTask) -> None:
    first = load(task, shards())
    assert task.start is not None
    old, new = (load_network(m).state_dict() for m in (task.start.weights, first))
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed == {f"{first.head}.weight", f"{first.head}.bias"}
    longer = replace(task, recipe=HEAD.model_copy(update={"epochs": 9}))
    assert load(longer, []).head == first.head


def test_features_of_another_preprocessing_are_computed_anew(task: TrainTask) -> None:
    load(task, shards())
    assert task.start is not None
    weights = task.start.weights
    other = weights.preprocessing.model_copy(update={"mean": (0.9, 0.9, 0.9)})
    start = replace(task.start, weights=replace(weights, preprocessing=other))
    load(replace(task, start=start), shards())
    assert len(list(task.folder.glob("features-*.safetensors"))) == 2


def test_head_alone_ends_where_a_frozen_network_does(task: TrainTask) -> None:
    frozen = HEAD.model_copy(update={"head_only": False, "freeze_epochs": HEAD.epochs})
    left, right = load(task, shards()), load(replace(task, recipe=frozen), shards())
    rows = [load_network(m).state_dict()[f"{m.head}.weight"] for m in (left, right)]
    # Features differ in their last bits, because they are computed in larger batches.
    torch.testing.assert_close(rows[0], rows[1], atol=1e-3, rtol=1e-3)


def test_head_alone_is_judged_on_the_features_of_other_images(task: TrainTask) -> None:
    images, stopping = hold_out(IMAGES, ValidationConfig(share=0.3, patience=2), 0)
    judged = replace(task, images=images, stopping=stopping)
    assert load(judged, shards()).classes == task.classes
    assert '"validation_accuracy": 0.' in judged.curve.read_text()


@pytest.mark.parametrize(
    ("network", "match"),
    [
        (nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten()), "is Conv2d; head_only needs a linear"),
        (nn.Sequential(nn.Linear(4, 2)), "is given .*, and not a row for each image"),
    ],
)
def test_head_that_has_no_row_for_each_image_is_refused(network: nn.Module, match: str) -> None:
    preprocessing = Preprocessing(size=4, mean=(0, 0, 0), std=(1, 1, 1))
    with pytest.raises(CheckpointError, match=match):
        feature_function(network, 2)(torch.zeros(2, 3, 4, 4), preprocessing)
