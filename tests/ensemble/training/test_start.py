from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ensemble.checkpoints.load import load_member, load_network
from ensemble.errors import CheckpointError
from ensemble.images.open import decode_shard
from ensemble.images.settings import DigitsConfig
from ensemble.images.shard import ImageShard, plan_shards
from ensemble.images.sources.digits import open_source
from ensemble.members.member import Member
from ensemble.members.source_settings import RecipeSource, TakeConfig
from ensemble.models.heads import find_head
from ensemble.training.member import train_member
from ensemble.training.recipe import RecipeConfig
from ensemble.training.start import build_start, try_start
from ensemble.training.task import Start, TrainTask
from ensemble.views.settings import CenterView

CPU = torch.device("cpu")
SOURCE = open_source(DigitsConfig())
IMAGES = SOURCE.index().take(np.arange(60))
FEW = IMAGES.of_classes((0, 1, 2))
STILL = RecipeConfig(epochs=0, augmentation=None)

Train = Callable[..., Member]


def shards() -> Sequence[ImageShard]:
    return [decode_shard(SOURCE, spec) for spec in plan_shards(IMAGES.image_ids.tolist(), 30)]


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Train:
    folder = tmp_path_factory.mktemp("weights")

    def train(recipe: RecipeConfig = STILL, **changes: object) -> Member:
        task = TrainTask("mine", "resnet14_small", recipe, 3, IMAGES, tuple(range(10)), folder)
        task = replace(task, **changes)
        return load_member("mine", train_member(task, shards(), CPU), CenterView(), "d" * 64)

    return train


def state(member: Member) -> dict[str, torch.Tensor]:
    return load_network(member).state_dict()


def changed(before: Member, after: Member) -> set[str]:
    """Names of the parameters that differ."""
    old, new = state(before), state(after)
    return {name for name in old if name in new and not torch.equal(old[name], new[name])}


def test_all_but_a_head_of_other_classes_is_taken(train: Train) -> None:
    weights = train(seed=1)
    mine = train(start=Start(weights), images=FEW, classes=(0, 1, 2))
    assert mine.classes == (0, 1, 2)
    assert mine.preprocessing == weights.preprocessing
    old, new = state(weights), state(mine)
    head = mine.head
    assert new[f"{head}.weight"].shape == (3, old[f"{head}.weight"].shape[1])
    assert all(torch.equal(old[name], new[name]) for name in old if not name.startswith(head))


def test_head_of_as_many_classes_is_taken_unless_a_new_one_is_set(train: Train) -> None:
    weights = train(seed=1)
    kept, fresh = train(start=Start(weights)), train(start=Start(weights, new_head=True))
    assert changed(weights, kept) == set()
    assert changed(weights, fresh) == {f"{weights.head}.weight", f"{weights.head}.bias"}


def test_fresh_head_depends_on_the_seed(train: Train) -> None:
    start = Start(train(seed=1), new_head=True)
    assert changed(train(start=start, seed=4), train(start=start, seed=5))


def test_start_is_part_of_the_identity(train: Train, tmp_path: Path) -> None:
    task = TrainTask("a", "resnet14_small", STILL, 3, IMAGES, tuple(range(10)), tmp_path)
    weights = train(seed=1)
    keys = {
        replace(task, start=start).key
        for start in (
            None,
            Start(weights),
            Start(weights, new_head=True),
            Start(weights, TakeConfig(first=2)),
            Start(train(seed=2)),
        )
    }
    assert len(keys) == 5


def test_frozen_layers_stay_as_they_are(train: Train) -> None:
    weights = train(seed=1)
    recipe = RecipeConfig(epochs=2, freeze_epochs=2, augmentation=None)
    mine = train(recipe, start=Start(weights))
    assert changed(weights, mine) == {f"{mine.head}.weight", f"{mine.head}.bias"}


def test_layers_thaw_after_the_frozen_epochs(train: Train) -> None:
    weights = train(seed=1)
    recipe = RecipeConfig(epochs=2, freeze_epochs=1, augmentation=None)
    mine = train(recipe, start=Start(weights))
    assert len(changed(weights, mine)) > 10


def test_layer_decay_changes_early_layers_less(train: Train) -> None:
    weights = train(seed=1)

    def distance(layer_decay: float) -> float:
        recipe = RecipeConfig(epochs=1, augmentation=None, layer_decay=layer_decay)
        old, new = state(weights), state(train(recipe, start=Start(weights)))
        first = next(name for name in old if old[name].ndim == 4)
        return float((old[first] - new[first]).norm())

    assert distance(0.5) < distance(0.9) < distance(1.0)


def test_first_and_last_layers_are_taken_from_another_architecture(train: Train) -> None:
    narrow = train(architecture="resnet14_small", seed=1)
    task = TrainTask("deep", "resnet20_cifar", STILL, 3, IMAGES, tuple(range(10)), Path("nowhere"))
    network = build_start(replace(task, start=Start(narrow, TakeConfig(first=3, last=1))))
    old, new = list(state(narrow).values()), list(network.state_dict().values())
    same = [
        torch.equal(mine, theirs)
        for mine, theirs in zip(
            [t for t in new if t.ndim == 4][:4], [t for t in old if t.ndim == 4][:4], strict=True
        )
    ]
    assert same == [True, True, True, False]
    head = find_head(network)
    assert torch.equal(network.get_submodule(head).weight, state(narrow)[f"{narrow.head}.weight"])


@pytest.mark.parametrize(
    ("architecture", "take", "match"),
    [
        ("alexnet_small", None, r"is of resnet14_small, and 'x' is alexnet_small\. Leave arch"),
        (
            "alexnet_small",
            TakeConfig(first=1),
            r"no further layer with \[16, 3, 3, 3\].*take fewer",
        ),
        ("alexnet_small", TakeConfig(first=99), r"take\.first is 99, and resnet14_small has 16"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    train: Train, architecture: str, take: TakeConfig | None, match: str
) -> None:
    with pytest.raises(CheckpointError, match=match):
        try_start("x", architecture, 10, Start(train(seed=1), take))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({}, "set architecture, as resnet20_cifar, or start"),
        ({"architecture": "alexnet_small", "new_head": True}, "set start too"),
        ({"architecture": "alexnet_small", "take": {"first": 2}}, "set start too"),
        ({"start": "member:a", "take": {}}, "first and last are both 0"),
        ({"start": "member:a", "take": {"first": 1}}, "set architecture too"),
        ({"start": "hub:a"}, r"cannot read the source 'hub:a'; expected one of .*member:NAME"),
        ({"start": "onnx:a.onnx"}, "cannot read the source"),
    ],
)
def test_source_that_cannot_be_meant_is_refused(settings: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        RecipeSource.model_validate(settings)


def test_source_without_a_start_has_the_identity_of_older_ones() -> None:
    source = RecipeSource(architecture="alexnet_small", seed=2)
    assert source.identity() == {
        "kind": "recipe",
        "architecture": "alexnet_small",
        "recipe": "default",
        "seed": 2,
    }
    assert "start" in RecipeSource.model_validate({"start": "timm:resnet18.a1_in1k"}).identity()
