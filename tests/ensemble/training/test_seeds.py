from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ensemble.images.index import ImageIndex
from ensemble.members.source_settings import RecipeSource, SeedsConfig
from ensemble.training.augmentation_settings import AugmentationConfig
from ensemble.training.epoch_checkpoint import EpochCheckpoint
from ensemble.training.loop import fit
from ensemble.training.recipe import RecipeConfig
from ensemble.training.start import build_start
from ensemble.training.task import Seeds, TrainTask
from ensemble.training.training_images import TrainingImages

COUNT = 20
INDEX = ImageIndex(
    "made up", np.array([f"{n:02}" for n in range(COUNT)]), np.arange(COUNT) % 2, ("a", "b")
)
FLIPS = AugmentationConfig(
    max_shift=0, max_rotation_degrees=0, min_scale=1, max_scale=1, flip_probability=0.5
)
RECIPE = RecipeConfig(epochs=2, batch_size=6, augmentation=FLIPS)


class Seen(nn.Module):
    """Answers evenly, and notes which image it was given, mirrored or not."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.order: list[int] = []
        self.flips: list[bool] = []
        self._steps_left = stop_after

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self._steps_left == 0:
            raise KeyboardInterrupt
        self._steps_left = None if self._steps_left is None else self._steps_left - 1
        self.order += (images[:, 0, 0, 0] * COUNT).round().int().tolist()
        self.flips += (images[:, 1, 0, 0] < 0.5).tolist()
        return self.weight.expand(len(images), 2)


def see(task: TrainTask, path: Path, stop_after: int | None = None) -> Seen:
    """Train on images whose red tells their number and whose green is on the left."""
    images = torch.zeros(COUNT, 3, 4, 4)
    images[:, 0] = (torch.arange(COUNT) / COUNT)[:, None, None]
    images[:, 1, :, :2] = 1
    data = TrainingImages(images, torch.arange(COUNT) % 2, torch.device("cpu"), float("inf"))
    seen, channels = Seen(stop_after), ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    checkpoint = EpochCheckpoint(path, every_s=0.0)
    with suppress(KeyboardInterrupt):
        fit(
            seen,
            data,
            (0, 1),
            RECIPE,
            channels,
            task.augmentation_seed,
            checkpoint=checkpoint,
            order_seed=task.order_seed,
        )
    return seen


def make_task(seeds: Seeds | None, seed: int = 5) -> TrainTask:
    return TrainTask(
        "mine", "alexnet_small", RECIPE, seed, INDEX, (0, 1), Path("cache"), seeds=seeds
    )


def first_weights(task: TrainTask) -> torch.Tensor:
    return next(build_start(task).parameters()).detach()


@pytest.mark.parametrize("name", ["start", "order", "augmentation"])
def test_a_seed_changes_what_it_is_named_after_and_nothing_else(name: str, tmp_path: Path) -> None:
    base = make_task(Seeds(start=1, order=2, augmentation=3))
    assert base.seeds is not None
    other = make_task(replace(base.seeds, **{name: 7}))
    assert other.key != base.key
    ours, theirs = see(base, tmp_path / "ours"), see(other, tmp_path / "theirs")
    is_changed = {
        "start": not torch.equal(first_weights(base), first_weights(other)),
        "order": ours.order != theirs.order,
        "augmentation": ours.flips != theirs.flips,
    }
    assert is_changed == {part: part == name for part in is_changed}


def test_the_seed_itself_changes_nothing_where_each_part_has_one(tmp_path: Path) -> None:
    seeds = Seeds(start=1, order=2, augmentation=3)
    ours, theirs = make_task(seeds, 5), make_task(seeds, 6)
    assert see(ours, tmp_path / "a").order == see(theirs, tmp_path / "b").order
    assert torch.equal(first_weights(ours), first_weights(theirs))


def test_each_epoch_has_an_order_of_its_own_and_all_images(tmp_path: Path) -> None:
    order = see(make_task(Seeds(1, 2, 3)), tmp_path / "whole").order
    first, second = order[:COUNT], order[COUNT:]
    assert sorted(first) == sorted(second) == list(range(COUNT))
    assert first != second


@pytest.mark.parametrize("steps", [1, 4, 6])
def test_training_that_goes_on_sees_what_an_uninterrupted_one_does(
    steps: int, tmp_path: Path
) -> None:
    task = make_task(Seeds(1, 2, 3))
    whole = see(task, tmp_path / "whole")
    parts = see(task, tmp_path / "part", steps), see(task, tmp_path / "part")
    assert parts[0].order + parts[1].order == whole.order
    assert parts[0].flips + parts[1].flips == whole.flips


def test_task_without_seeds_of_parts_draws_all_from_one() -> None:
    task = make_task(None)
    assert (task.start_seed, task.order_seed, task.augmentation_seed) == (5, None, 5)


def test_a_source_without_seeds_has_the_identity_of_older_ones() -> None:
    source = RecipeSource.model_validate({"architecture": "alexnet_small"})
    assert "seeds" not in source.identity()
    other = RecipeSource.model_validate({"architecture": "alexnet_small", "seeds": {"start": 1}})
    assert other.identity()["seeds"]["start"] == 1


def test_seeds_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="set start, order or augmentation"):
        SeedsConfig()
