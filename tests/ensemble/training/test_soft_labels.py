"""Soft labels: stored views, the batches that are drawn of them, and a training on an ensemble's probabilities."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ensemble.errors import ConfigError, DataError
from ensemble.images.index import ImageIndex
from ensemble.images.open import decode_shard, open_source
from ensemble.images.settings import DigitsConfig, SplitConfig
from ensemble.images.shard import ShardSpec, plan_shards
from ensemble.images.split import split
from ensemble.inference.transforms import to_input
from ensemble.members.settings import Preprocessing
from ensemble.training.augmentation_settings import RandomResizedCropConfig
from ensemble.training.data import open_data
from ensemble.training.member import train_member
from ensemble.training.recipe import RecipeConfig, SoftLabelsConfig
from ensemble.training.soft_labels import ANSWERS, VIEWS, SoftLabelledImages, seal_folder
from ensemble.training.stored_views import ViewPlan, write_views
from ensemble.training.task import TrainTask

CPU = torch.device("cpu")
SOURCE = open_source(DigitsConfig())
TRAIN = split(SOURCE.index(), SplitConfig(train=300, search=20, test=20), 0).train
FEW = TRAIN.take(np.arange(60))
SEEN = Preprocessing(size=12, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
SHA256 = "0" * 64


def plan(images: ImageIndex = TRAIN, **changes: object) -> ViewPlan:
    return replace(ViewPlan(images, RecipeConfig(), SEEN, side=16, count=3, seed=5), **changes)


def pixels(folder: Path, size: int = 16) -> np.ndarray:
    """Every view in a folder, in order."""
    made = open_data(task(folder, size), [], CPU).batches
    assert isinstance(made, SoftLabelledImages)
    return np.array(made._pixels)


def task(folder: Path, size: int = 16, epochs: int = 2, **recipe: object) -> TrainTask:
    labels = SoftLabelsConfig(path=folder, sha256=SHA256)
    settings = RecipeConfig(input_size=size, epochs=epochs, soft_labels=labels, **recipe)
    return TrainTask(
        "student", "resnet14_small", settings, 0, TRAIN, tuple(range(10)), folder / "cache"
    )


def write(folder: Path, views: ViewPlan, answers: np.ndarray | None = None) -> Path:
    list(write_views(views, SOURCE, folder, TRAIN.classes))
    if answers is None:
        labels = np.repeat(views.images.labels, views.count)
        answers = 0.9 * np.eye(10)[labels] + 0.01
    np.save(folder / ANSWERS, answers.astype(np.float16))
    seal_folder(folder, SHA256, views.count)
    return folder


def test_views_do_not_depend_on_which_files_are_there(tmp_path: Path) -> None:
    whole, parts = write(tmp_path / "a", plan()), tmp_path / "b"
    list(write_views(plan(), SOURCE, parts, TRAIN.classes))
    first = sorted((parts / VIEWS).iterdir())[0]
    kept = first.read_bytes()
    first.unlink()
    write(parts, plan())
    assert first.read_bytes() == kept
    assert np.array_equal(pixels(whole), pixels(parts))


def test_an_unchanged_view_is_what_the_network_predicts(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", plan(side=12, count=1, is_drawn=False))
    shards = [decode_shard(SOURCE, ShardSpec(tuple(TRAIN.image_ids.tolist())))]
    expected = (to_input(shards, 12, None, "bilinear") * 255).round()
    assert np.abs(pixels(folder, 12) - expected.numpy()).max() <= 1


def test_views_of_one_image_differ_and_are_of_that_image(tmp_path: Path) -> None:
    crop = RandomResizedCropConfig(min_area=0.5)
    views = pixels(write(tmp_path / "a", plan(FEW, recipe=RecipeConfig(crop=crop)))).reshape(
        60, 3, -1
    )
    still = pixels(write(tmp_path / "b", plan(FEW, count=1, is_drawn=False))).reshape(60, -1)
    assert (views[:, 0] != views[:, 1]).any(axis=1).all()
    centred = [rows - rows.mean(axis=1, keepdims=True) for rows in (views[:, 0] / 255, still / 255)]
    likeness = centred[0] @ centred[1].T
    assert (likeness.diagonal() > np.median(likeness, axis=1)).mean() > 0.8


def test_an_epoch_has_each_image_once_with_the_answers_to_the_view_that_is_seen() -> None:
    stored = np.arange(12, dtype=np.uint8).reshape(12, 1, 1, 1).repeat(3, axis=1)
    answers = np.stack([np.arange(12), 24 - np.arange(12)], axis=1).astype(np.float16) / 24
    batches = SoftLabelledImages(stored, answers, count=3, device=CPU)
    seen = set()
    for epoch in range(20):
        drawn = list(batches.batches(2, torch.Generator().manual_seed(epoch)))
        views = torch.cat([images[:, 0, 0, 0] for images, _ in drawn])
        probabilities = torch.cat([labels for _, labels in drawn])
        assert sorted((views // 3).tolist()) == [0, 1, 2, 3]
        assert torch.allclose(probabilities[:, 0], views / 24, atol=1e-3)
        assert torch.allclose(probabilities.sum(dim=1), torch.ones(4))
        later = list(batches.batches(2, torch.Generator().manual_seed(epoch), first_step=1))
        assert torch.equal(later[0][0], drawn[1][0])
        seen |= set(views.tolist())
    assert seen == set(range(12))  # every view is drawn in some epoch


def test_a_network_learns_what_the_ensemble_answers_and_not_the_labels(tmp_path: Path) -> None:
    """The ensemble calls every digit the next one; it was never told a label, and the network follows it."""
    wrong = 0.97 * np.eye(10)[np.repeat((TRAIN.labels + 1) % 10, 3)] + 0.003
    folder = write(tmp_path / "a", plan(), wrong)
    student = task(folder, epochs=8, mixup=0.4, label_smoothing=0.1)
    train_member(student, [], CPU)
    curve = json.loads(student.curve.read_bytes())
    assert curve[-1]["accuracy"] > 0.8
    # Neither smoothing nor mixing: the loss comes near the entropy of the answers, 0.20 nats.
    assert curve[-1]["loss_nats"] < 0.8


def test_identity_is_that_of_the_content(tmp_path: Path) -> None:
    moved = SoftLabelsConfig(path=tmp_path / "elsewhere", sha256=SHA256)
    here = task(tmp_path).recipe
    assert here.model_copy(update={"soft_labels": moved}).identity() == here.identity()
    assert here.identity() != RecipeConfig(input_size=16, epochs=2).identity()
    assert plan().sha256 != plan(count=4).sha256 != plan(seed=6).sha256
    still = plan(is_drawn=False)
    assert still.sha256 == replace(still, seed=6).sha256


def test_wrong_folders_are_refused_with_one_message(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no folder of soft labels"):
        train_member(task(tmp_path / "nowhere"), [], CPU)
    folder = write(tmp_path / "a", plan())
    other = SoftLabelsConfig(path=folder, sha256="1" * 64)
    changed = replace(task(folder), recipe=RecipeConfig(soft_labels=other))
    with pytest.raises(ConfigError, match="holds other soft labels"):
        train_member(changed, [], CPU)
    with pytest.raises(ConfigError, match="are of 10 classes, and the network has 3"):
        train_member(replace(task(folder), classes=(0, 1, 2)), [], CPU)
    with pytest.raises(ValueError, match="head_only=true"):
        RecipeConfig(head_only=True, soft_labels=other)
    damaged = sorted((folder / VIEWS).iterdir())[0]
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(DataError, match="is damaged"):
        train_member(task(folder, size=10), [], CPU)


def test_images_that_cannot_be_decoded_have_no_views(tmp_path: Path) -> None:
    ids = np.array(["nosuch", *TRAIN.image_ids[:9].tolist()])
    images = replace(TRAIN, image_ids=ids, labels=TRAIN.labels[:10], parts=None)
    (number,) = (len(spec.image_ids) for spec in plan_shards(ids.tolist(), 256))
    assert list(write_views(plan(images), SOURCE, tmp_path, TRAIN.classes)) == [number]
    np.save(tmp_path / ANSWERS, np.full((27, 10), 0.1, np.float16))
    seal_folder(tmp_path, SHA256, 3)
    data = open_data(task(tmp_path), [], CPU)
    assert [bad.image_id for bad in data.bad] == ["nosuch"]
