from pathlib import Path

import pytest
import torch
from torch import nn

from ensemble.errors import CheckpointError
from ensemble.models import registry as models
from ensemble.training.epoch_checkpoint import EpochCheckpoint
from ensemble.training.loop import EpochLog, Training, TrainingLog, train
from ensemble.training.optimizer_settings import AdamWConfig, SgdConfig
from ensemble.training.recipe import RecipeConfig
from ensemble.training.step import Step

MEAN, STD = (0.3, 0.3, 0.3), (0.35, 0.35, 0.35)
IMAGES = torch.rand(24, 3, 16, 16, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(24) % 3


class Interrupted(Exception):
    """What ends a training half-way."""


def run(
    path: Path,
    recipe: RecipeConfig,
    stop_after: int | None = None,
    checkpoint: EpochCheckpoint | None = None,
) -> tuple[nn.Module, TrainingLog]:
    """Train AlexNet, because its dropout draws from the global generator."""

    def on_epoch(log: EpochLog) -> None:
        if stop_after is not None and log.epoch == stop_after:
            raise Interrupted

    network = models.build("alexnet_small", 3)
    checkpoint = checkpoint or EpochCheckpoint(path)
    log = train(network, IMAGES, LABELS, recipe, MEAN, STD, 4, on_epoch, checkpoint)
    return network, log


def same(left: nn.Module, right: nn.Module) -> bool:
    expected = right.state_dict()
    return all(torch.equal(value, expected[key]) for key, value in left.state_dict().items())


RECIPES: dict[str, dict[str, object]] = {
    "SAM and clipping": {"sam_rho": 0.05, "clip_norm": 1.0},
    "the average": {"ema": 0.9},
    "a plateau": {"schedule": {"kind": "plateau", "patience": 0, "factor": 0.5}},
    "warm restarts": {"schedule": {"kind": "warm_restarts", "first_epochs": 2}},
    "mixed images": {"mixup": 0.4, "cutmix": 1.0, "erasing": {}, "colour": {"brightness": 0.3}},
    "noise and the paper's momentum": {
        "noise_sd": 0.2,
        "colour": {"pca_sd": 0.1},
        "optimizer": {"kind": "sgd", "lr": 0.02, "nesterov": False, "rule": "paper"},
    },
    "noise within the network": {
        "noise": {"weights": 0.1, "gradients": 0.1, "activations": 0.1},
    },
    "accumulation": {"accumulation": 2, "batch_size": 3, "freeze_epochs": 1, "layer_decay": 0.8},
    "scaled gradients": {"precision": "float16", "clip_norm": 1.0, "sam_rho": 0.05},
    "lamb": {"optimizer": {"kind": "timm", "name": "lamb", "lr": 0.01}},
    "lion": {"optimizer": {"kind": "timm", "name": "lion", "lr": 0.001}},
    "nadam": {"optimizer": {"kind": "timm", "name": "nadam", "lr": 0.001}},
    "adadelta": {"optimizer": {"kind": "timm", "name": "adadelta", "lr": 0.5}},
    "muon": {"optimizer": {"kind": "timm", "name": "muon", "lr": 0.001}},
}


class Killed(EpochCheckpoint):
    """Writes after each step, and raises after some of them."""

    def __init__(self, path: Path, steps: int) -> None:
        super().__init__(path, every_s=0.0)
        self._left = steps

    def keep_step(self, training: Training) -> None:
        super().keep_step(training)
        self._left -= 1
        if self._left < 0:
            raise Interrupted


@pytest.mark.parametrize("settings", RECIPES.values(), ids=RECIPES.keys())
def test_training_killed_within_epochs_gives_the_bits_of_one_that_was_not(
    tmp_path: Path, settings: dict[str, object]
) -> None:
    recipe = RecipeConfig.model_validate({"epochs": 3, "batch_size": 6} | settings)
    whole, log = run(tmp_path / "whole", recipe)
    path = tmp_path / "part"
    for steps in (1, 0, 3):
        torch.manual_seed(steps)
        with pytest.raises(Interrupted):
            run(path, recipe, checkpoint=Killed(path, steps))
    went_on, second = run(path, recipe)
    assert same(went_on, whole)
    assert [epoch.loss_nats for epoch in second.epochs] == [e.loss_nats for e in log.epochs]
    assert [epoch.rate for epoch in second.epochs] == [e.rate for e in log.epochs]
    if log.average is not None and second.average is not None:
        assert same(second.average.module, log.average.module)


@pytest.mark.parametrize("optimizer", [SgdConfig(), AdamWConfig()])
@pytest.mark.parametrize("stop_after", [0, 2])
def test_training_that_goes_on_gives_the_bits_of_one_that_was_not_interrupted(
    tmp_path: Path, optimizer: SgdConfig | AdamWConfig, stop_after: int
) -> None:
    recipe = RecipeConfig(epochs=4, batch_size=8, optimizer=optimizer)
    whole, log = run(tmp_path / "whole", recipe)
    with pytest.raises(Interrupted):
        run(tmp_path / "part", recipe, stop_after)
    torch.manual_seed(123)
    went_on, second = run(tmp_path / "part", recipe)
    assert same(went_on, whole)
    assert [epoch.loss_nats for epoch in second.epochs] == [e.loss_nats for e in log.epochs]


def judged(path: Path, errors: list[int]) -> tuple[EpochCheckpoint, list[torch.Tensor]]:
    """A checkpoint whose verdicts are given, and the weights that each was given for."""
    seen: list[torch.Tensor] = []

    def judge(network: nn.Module) -> tuple[int, float]:
        seen.append(next(network.parameters()).detach().clone())
        return errors[len(seen) - 1], 1.0

    return EpochCheckpoint(path, judge, patience=2), seen


@pytest.mark.parametrize(
    ("errors", "epochs", "best"),
    [
        ([9, 8, 7, 6, 5, 4], 5, 5),  # better to the end
        ([9, 7, 8, 8, 1, 1], 3, 1),  # two epochs without a gain
        ([5, 8, 8, 0, 0, 0], 2, 0),  # the base was best
        ([5, 6, 4, 5, 3, 9], 5, 4),
    ],
)
def test_the_best_epoch_stays_and_patience_ends_the_rest(
    tmp_path: Path, errors: list[int], epochs: int, best: int
) -> None:
    checkpoint, seen = judged(tmp_path / "progress", errors)
    network, log = run(tmp_path, RecipeConfig(epochs=5, batch_size=8), checkpoint=checkpoint)
    assert len(log.epochs) == epochs
    assert checkpoint.best_epoch == best
    assert torch.equal(next(network.parameters()), seen[best])


def test_of_equal_errors_the_lower_loss_is_better(tmp_path: Path) -> None:
    verdicts = iter([(3, 1.0), (3, 0.5), (3, 0.7)])
    checkpoint = EpochCheckpoint(tmp_path / "progress", lambda _: next(verdicts), patience=5)
    run(tmp_path, RecipeConfig(epochs=2, batch_size=8), checkpoint=checkpoint)
    assert checkpoint.best_epoch == 1


def test_stopped_training_that_goes_on_remembers_its_best_epoch(tmp_path: Path) -> None:
    errors = iter([9, 1, 5, 5, 0])
    recipe = RecipeConfig(epochs=4, batch_size=8)
    path = tmp_path / "progress"
    first = EpochCheckpoint(path, lambda _: (next(errors), 1.0), patience=2)
    with pytest.raises(Interrupted):
        run(tmp_path, recipe, stop_after=2, checkpoint=first)
    second = EpochCheckpoint(path, lambda _: (next(errors), 1.0), patience=2)
    _, log = run(tmp_path, recipe, checkpoint=second)
    assert second.best_epoch == 1
    assert len(log.epochs) == 3


def test_no_epoch_leaves_the_weights_as_they_were(tmp_path: Path) -> None:
    network, log = run(tmp_path / "progress", RecipeConfig(epochs=0))
    assert same(network, models.build("alexnet_small", 3))
    assert log.epochs == ()
    assert not network.training


def test_a_damaged_file_is_refused_and_named(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    with pytest.raises(Interrupted):
        run(path, RecipeConfig(epochs=3, batch_size=8), stop_after=1)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        run(path, RecipeConfig(epochs=3, batch_size=8))
    path.unlink()
    with pytest.raises(Interrupted):
        run(path, RecipeConfig(epochs=3, batch_size=8), stop_after=1)
    network = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=1)
    step = Step(network, optimizer, RecipeConfig(), (0, 1))
    other = Training(network, optimizer, torch.Generator(), step)
    with pytest.raises(CheckpointError, match="not a training to go on with"):
        EpochCheckpoint(path).begin(other)


def test_the_file_is_gone_when_it_is_not_needed_any_more(tmp_path: Path) -> None:
    checkpoint = EpochCheckpoint(tmp_path / "progress")
    run(tmp_path, RecipeConfig(epochs=1, batch_size=8), checkpoint=checkpoint)
    assert (tmp_path / "progress").exists()
    checkpoint.forget()
    assert not (tmp_path / "progress").exists()


class Narrow(nn.Module):
    """A network on a device whose memory holds so many images."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 16 * 16, 3)
        self.most, self.sizes = most, list[int]()
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > self.most:
            raise torch.OutOfMemoryError(f"no room for {len(images)} images")
        self.sizes.append(len(images))
        logits: torch.Tensor = self.head(images.flatten(1))
        return logits


def test_a_batch_too_large_for_the_memory_is_halved_and_gives_the_same_step(tmp_path: Path) -> None:
    recipe = RecipeConfig(epochs=2, batch_size=8, augmentation=None)
    wide, narrow = Narrow(99), Narrow(3)
    logs = [train(network, IMAGES, LABELS, recipe, MEAN, STD, 0) for network in (wide, narrow)]
    assert set(wide.sizes) == {8}
    assert set(narrow.sizes) == {2}
    torch.testing.assert_close(narrow.head.weight, wide.head.weight)
    for ours, theirs in zip(logs[0].epochs, logs[1].epochs, strict=True):
        assert ours.loss_nats == pytest.approx(theirs.loss_nats, rel=1e-5)
        assert ours.accuracy == theirs.accuracy


def test_memory_that_does_not_hold_two_images_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError, match="no room for 2"):
        train(Narrow(1), IMAGES, LABELS, RecipeConfig(epochs=1, batch_size=8), MEAN, STD, 0)
