import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ensemble.checkpoints.header import read_bad_images, read_metadata
from ensemble.checkpoints.load import load_member, load_network
from ensemble.errors import CheckpointError, EmptySplitError
from ensemble.images.index import ImageIndex
from ensemble.images.open import decode_shard
from ensemble.images.settings import DigitsConfig
from ensemble.images.shard import BadImage, ImageShard, plan_shards
from ensemble.images.sources.digits import open_source
from ensemble.inference.predict import predict
from ensemble.models.heads import find_head
from ensemble.training.augmentation_settings import AugmentationConfig
from ensemble.training.member import train_member
from ensemble.training.recipe import RecipeConfig, ValidationConfig
from ensemble.training.task import Stopping, TrainTask, hold_out
from ensemble.views.settings import CenterView

CPU = torch.device("cpu")
SOURCE = open_source(DigitsConfig())
IMAGES = SOURCE.index().take(np.arange(40))
RECIPE = RecipeConfig(epochs=2, batch_size=16, augmentation=AugmentationConfig())


def task(folder: Path, **changes: Any) -> TrainTask:
    # AlexNet, because it draws dropout too.
    plain = TrainTask("mine", "alexnet_small", RECIPE, 5, IMAGES, tuple(range(10)), folder)
    return replace(plain, **changes)


def shards(image_ids: Sequence[str], shard_images: int = 40) -> list[ImageShard]:
    return [decode_shard(SOURCE, spec) for spec in plan_shards(image_ids, shard_images)]


def trained(task: TrainTask, shards: Sequence[ImageShard]) -> bytes:
    return train_member(task, shards, CPU).read_bytes()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return trained(task(tmp_path_factory.mktemp("cache")), shards(IMAGES.image_ids.tolist()))


def test_training_twice_gives_the_same_bytes(expected: bytes, tmp_path: Path) -> None:
    torch.manual_seed(99)
    assert trained(task(tmp_path), shards(IMAGES.image_ids.tolist())) == expected


def test_neither_size_nor_order_of_the_shards_changes_a_byte(
    expected: bytes, tmp_path: Path
) -> None:
    shuffled = np.random.default_rng(0).permutation(IMAGES.image_ids).tolist()
    assert trained(task(tmp_path), shards(shuffled, 7)) == expected


def test_images_of_others_in_the_shards_are_not_looked_at(expected: bytes, tmp_path: Path) -> None:
    more = SOURCE.index().image_ids[:60].tolist()
    # One of them could not be decoded.
    others = ImageShard.pack([], [], [BadImage("somebody else's", "torn")])
    assert trained(task(tmp_path), [*shards(more, 25), others]) == expected


def test_name_changes_no_byte_and_a_seed_all(expected: bytes, tmp_path: Path) -> None:
    data = shards(IMAGES.image_ids.tolist())
    assert trained(task(tmp_path, name="yours"), data) == expected
    assert trained(task(tmp_path, seed=6), data) != expected


def test_checkpoint_is_a_member(tmp_path: Path) -> None:
    mine = task(tmp_path)
    path = train_member(mine, shards(IMAGES.image_ids.tolist()), CPU)
    member = load_member("a", path, CenterView(), "d" * 64)
    network = load_network(member)
    assert path == mine.checkpoint
    assert (member.architecture, member.classes, member.seed) == ("alexnet_small", mine.classes, 5)
    assert member.head == find_head(network)
    assert member.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert not network.training


def test_preprocessing_is_measured_on_the_training_images(tmp_path: Path) -> None:
    path = train_member(task(tmp_path), shards(IMAGES.image_ids.tolist()), CPU)
    preprocessing = load_member("a", path, CenterView(), "d" * 64).preprocessing
    pixels = np.stack([SOURCE.decode(i) for i in IMAGES.image_ids.tolist()]) / 255
    assert preprocessing.size == RECIPE.input_size
    np.testing.assert_allclose(preprocessing.mean, pixels.mean(axis=(0, 1, 2)), atol=0.01)
    assert all(0 < std < pixels.std() + 0.01 for std in preprocessing.std)


def test_images_of_one_colour_have_a_deviation_to_divide_by(tmp_path: Path) -> None:
    images = ImageIndex("made up", np.array(["a", "b"]), np.array([0, 1]), ("x", "y"))
    black = ImageShard.pack(["a", "b"], [np.zeros((8, 8, 3), np.uint8)] * 2)
    path = train_member(task(tmp_path, images=images, classes=(0, 1)), [black], CPU)
    assert load_member("a", path, CenterView(), "d" * 64).preprocessing.std == (0.001,) * 3


def test_images_that_cannot_be_decoded_are_told_and_the_rest_is_trained_on(tmp_path: Path) -> None:
    *good, bad = IMAGES.image_ids.tolist()
    data = [*shards(good), ImageShard.pack([], [], [BadImage(bad, "torn")])]
    path = train_member(task(tmp_path), data, CPU)
    assert read_bad_images(path) == (BadImage(bad, "torn"),)


def test_no_image_to_train_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        EmptySplitError, match="mine has no image to train on that could be decoded"
    ):
        train_member(task(tmp_path), [], CPU)


def test_sub_classifier_starts_from_the_rows_of_its_classes(tmp_path: Path) -> None:
    data = shards(IMAGES.image_ids.tolist())
    path = train_member(task(tmp_path), data, CPU)
    base = load_member("base", path, CenterView(), "d" * 64)
    # So small a rate that the start can still be seen.
    recipe = RecipeConfig(epochs=1, augmentation=None, optimizer={"kind": "sgd", "lr": 1e-12})
    sub_task = TrainTask.of_subclassifier(base, IMAGES, (3, 1, 7), recipe, 0, tmp_path)
    member = load_member("sub", train_member(sub_task, data, CPU), CenterView(), "d" * 64)
    before, after = load_network(base).state_dict(), load_network(member).state_dict()
    assert member.classes == (3, 1, 7)
    assert member.preprocessing == base.preprocessing
    torch.testing.assert_close(after["head.weight"], before["head.weight"][[3, 1, 7]])
    assert all(
        torch.allclose(after[key], before[key], atol=1e-6) for key in before if "head" not in key
    )


def test_one_cluster_of_all_classes_and_no_epoch_is_the_base(tmp_path: Path) -> None:
    data = shards(IMAGES.image_ids.tolist())
    base = load_member("base", train_member(task(tmp_path), data, CPU), CenterView(), "d" * 64)
    recipe = RecipeConfig(epochs=0, augmentation=None)
    everything = tuple(range(10))
    sub_task = TrainTask.of_subclassifier(base, IMAGES, everything, recipe, 0, tmp_path)
    sub = load_member("sub", train_member(sub_task, data, CPU), CenterView(), "d" * 64)
    rows = [predict(load_network(member), member, data[0], CPU) for member in (base, sub)]
    assert rows[0].log_probabilities.tobytes() == rows[1].log_probabilities.tobytes()


def test_fine_tuning_is_judged_on_the_stopping_images_of_its_classes_alone(
    tmp_path: Path,
) -> None:
    index = SOURCE.index().take(np.arange(80))
    data = shards(index.image_ids.tolist())
    base = load_member("base", train_member(task(tmp_path), data, CPU), CenterView(), "d" * 64)
    stopping = Stopping(index.take(np.arange(40, 80)), patience=1)
    # So high a rate that an epoch can only do harm.
    recipe = RecipeConfig(
        epochs=3,
        augmentation=None,
        optimizer={"kind": "sgd", "lr": 2, "momentum": 0.0, "nesterov": False},
    )
    mine = TrainTask.of_subclassifier(base, IMAGES, (1, 3), recipe, 0, tmp_path, stopping)
    assert mine.stopping is not None
    assert set(mine.stopping.images.labels.tolist()) == {1, 3}
    assert not set(mine.stopping.images.image_ids) & set(mine.images.image_ids)
    assert mine.key != TrainTask.of_subclassifier(base, IMAGES, (1, 3), recipe, 0, tmp_path).key
    path = train_member(mine, data, CPU)
    told = read_metadata(path)
    assert int(told["best_epoch"]) <= int(told["epochs"]) <= 3
    assert not mine.progress.exists()
    before = path.stat().st_mtime_ns
    assert train_member(mine, [], CPU).stat().st_mtime_ns == before  # it is there


def test_network_of_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    path = train_member(task(tmp_path), shards(IMAGES.image_ids.tolist()), CPU)
    member = load_member("a", path, CenterView(), "d" * 64)
    path.unlink()
    with pytest.raises(CheckpointError, match="cannot read"):
        load_network(member)


def test_snapshots_and_the_average_are_members_too(tmp_path: Path) -> None:
    recipe = RecipeConfig(
        epochs=3, batch_size=16, augmentation=None, ema=0.5, snapshots={"last": 2}
    )
    mine = task(tmp_path, recipe=recipe)
    data = shards(IMAGES.image_ids.tolist())
    path = train_member(mine, data, CPU)
    assert list(mine.extras) == ["#1", "#2", "#ema"]
    members = [load_member("a", p, CenterView(), "d" * 64) for p in mine.files]
    assert len({member.weights_sha256 for member in members}) == 4
    for member in members:
        load_network(member)
    # The first snapshot is what one epoch fewer of a rate that does not depend on their number gives.
    assert [read_metadata(p)["epochs"] for p in mine.files] == ["3", "1", "2", "3"]
    mine.extras["#2"].unlink()
    assert not mine.is_done
    again = path.read_bytes()
    assert train_member(mine, data, CPU).read_bytes() == again
    assert mine.is_done


def test_curve_holds_both_losses_the_rate_and_the_seconds(tmp_path: Path) -> None:
    images, stopping = hold_out(IMAGES, ValidationConfig(share=0.2), 0)
    mine = task(tmp_path, images=images, stopping=stopping)
    train_member(mine, shards(IMAGES.image_ids.tolist()), CPU)
    epochs = json.loads(mine.curve.read_text())
    assert len(epochs) == 2
    assert all(
        epoch[key] is not None
        for epoch in epochs
        for key in ("loss_nats", "accuracy", "validation_loss_nats", "validation_accuracy", "rate")
    )
    assert all(epoch["seconds"] > 0 for epoch in epochs)
