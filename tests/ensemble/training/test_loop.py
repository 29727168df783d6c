import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from ensemble.errors import DataError, DivergedError
from ensemble.models import registry as models
from ensemble.training.augmentation import augment
from ensemble.training.augmentation_settings import AugmentationConfig
from ensemble.training.epoch_checkpoint import EpochCheckpoint
from ensemble.training.loop import EpochLog, TrainingLog, train
from ensemble.training.optimizer_settings import AdamWConfig, SgdConfig
from ensemble.training.recipe import RecipeConfig
from ensemble.training.schedule_settings import ConstantConfig, CosineConfig, MultiStepConfig
from ensemble.training.schedules import rate_factor
from ensemble.training.step import PreparedBatch, Step
from ensemble.training.step_results import CHECK_STEPS

MEAN, STD = (0.3, 0.3, 0.3), (0.35, 0.35, 0.35)
SHORT = RecipeConfig(epochs=3, batch_size=8)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


def bars(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of a bright row or a bright column, told apart by their labels."""
    labels = torch.arange(count) % 2
    places = torch.arange(count) // 2 % 8 + 4
    images = 0.2 * torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for image, label, place in zip(images, labels.tolist(), places.tolist(), strict=True):
        image[:, place] += 0.8 * (label == 0)
        image[:, :, place] += 0.8 * (label == 1)
    return images.clamp(0, 1), labels


def trained(seed: int, recipe: RecipeConfig = SHORT) -> tuple[nn.Module, TrainingLog]:
    # AlexNet, because its dropout draws from the global generator.
    network = models.build("alexnet_small", 2)
    images, labels = bars(20)
    return network, train(network, images, labels, recipe, MEAN, STD, seed)


def test_training_is_the_same_to_the_bit_whatever_was_drawn_before() -> None:
    torch.manual_seed(1)
    first, first_log = trained(seed=4)
    torch.manual_seed(2)
    second, second_log = trained(seed=4)
    expected = second.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in first.state_dict().items())
    assert [e.loss_nats for e in first_log.epochs] == [e.loss_nats for e in second_log.epochs]


def train_plainly(
    network: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    recipe: RecipeConfig,
    seed: int,
) -> list[tuple[float, float]]:
    """Train as `train` does, reading every step's loss; return loss and accuracy of each epoch."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    network.train().to(memory_format=torch.channels_last)
    config = recipe.optimizer
    settings = config.model_dump(exclude={"kind", "beta1", "beta2", "rule"})
    optimizer = (
        torch.optim.SGD(network.parameters(), **settings)
        if isinstance(config, SgdConfig)
        else torch.optim.AdamW(network.parameters(), betas=(config.beta1, config.beta2), **settings)
    )
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (MEAN, STD))
    epochs = []
    for epoch in range(recipe.epochs):
        loss_sum, num_correct = 0.0, 0
        batches = torch.randperm(len(images), generator=generator).split(recipe.batch_size)
        for step, rows in enumerate(batches):
            progress = epoch + (step + 0.5) / len(batches)
            rate = config.lr * rate_factor(recipe.schedule, progress, recipe.epochs)
            optimizer.param_groups[0]["lr"] = rate
            batch = images[rows]
            if recipe.augmentation is not None:
                batch = augment(batch, recipe.augmentation, generator)
            batch = ((batch - mean) / std).contiguous(memory_format=torch.channels_last)
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, recipe.precision == "bfloat16"):
                logits = network(batch).float()
            smoothing = recipe.label_smoothing
            loss = functional.cross_entropy(logits, labels[rows], label_smoothing=smoothing)
            torch.autograd.backward(loss)
            optimizer.step()
            loss_sum += loss.item() * len(rows)
            num_correct += int((logits.argmax(dim=1) == labels[rows]).sum())
        epochs.append((loss_sum / len(images), num_correct / len(images)))
    network.eval().to(memory_format=torch.contiguous_format)
    return epochs


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "schedule", [ConstantConfig(), CosineConfig(), MultiStepConfig(milestones=(1,))]
)
@pytest.mark.parametrize(
    ("optimizer", "augmentation"),
    [
        (SgdConfig(), AugmentationConfig()),
        (SgdConfig(momentum=0, nesterov=False), None),
        (AdamWConfig(), AugmentationConfig(max_rotation_degrees=0, min_scale=1, max_scale=1)),
    ],
)
def test_weights_and_log_are_to_the_bit_those_of_a_plain_loop_that_reads_every_loss(
    optimizer: SgdConfig | AdamWConfig,
    augmentation: AugmentationConfig | None,
    schedule: ConstantConfig | CosineConfig | MultiStepConfig,
    precision: str,
) -> None:
    recipe = RecipeConfig.model_validate(
        {
            "epochs": 2,
            "batch_size": 8,
            "optimizer": optimizer,
            "schedule": schedule,
            "augmentation": augmentation,
            "precision": precision,
            "label_smoothing": 0.1,
        }
    )
    images, labels = bars(20)
    network, plain = (models.build("alexnet_small", 2, seed=3) for _ in range(2))
    log = train(network, images, labels, recipe, MEAN, STD, 5)
    with torch.random.fork_rng(devices=[]):
        epochs = train_plainly(plain, images, labels, recipe, 5)
    expected = plain.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in network.state_dict().items())
    assert [(entry.loss_nats, entry.accuracy) for entry in log.epochs] == epochs


def test_pixels_of_eight_bits_give_the_bits_of_those_divided_by_255() -> None:
    images, labels = bars(20)
    small = (images * 255).to(torch.uint8)
    networks = []
    for pixels in (small, small.float() / 255):
        networks.append(models.build("alexnet_small", 2, seed=3))
        train(networks[-1], pixels, labels, SHORT, MEAN, STD, 5)
    expected = networks[1].state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in networks[0].state_dict().items())


def test_another_seed_gives_other_weights() -> None:
    first, second = trained(seed=4)[0].state_dict(), trained(seed=5)[0].state_dict()
    assert any(not torch.equal(first[key], second[key]) for key in first)


def test_training_leaves_the_global_generator_and_the_images_as_they_were() -> None:
    images, labels = bars(10)
    before = images.clone()
    state = torch.get_rng_state()
    train(models.build("alexnet_small", 2), images, labels, SHORT, MEAN, STD, 0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(images, before)


@pytest.mark.parametrize("optimizer", [SgdConfig(), AdamWConfig()])
def test_network_learns_what_can_be_learned(optimizer: SgdConfig | AdamWConfig) -> None:
    network = models.build("resnet14_small", 2)
    images, labels = bars(48)
    recipe = RecipeConfig(epochs=8, batch_size=12, optimizer=optimizer)
    log = train(network, images, labels, recipe, MEAN, STD, 0)
    logits = network((images - 0.3) / 0.35)
    assert log.epochs[-1].loss_nats < log.epochs[0].loss_nats
    assert float((logits.argmax(dim=1) == labels).float().mean()) > 0.9


def test_network_is_left_in_eval_mode_and_in_its_memory_layout() -> None:
    network, _ = trained(seed=0)
    assert not any(module.training for module in network.modules())
    assert all(value.is_contiguous() for value in network.state_dict().values())


def test_log_has_an_entry_for_each_epoch_and_reports_them_as_they_end() -> None:
    seen: list[EpochLog] = []
    images, labels = bars(10)
    network = models.build("resnet14_small", 2)
    log = train(network, images, labels, SHORT, MEAN, STD, 0, on_epoch=seen.append)
    assert log.epochs == tuple(seen)
    assert [entry.epoch for entry in log.epochs] == [0, 1, 2]
    assert all(0 <= entry.accuracy <= 1 and entry.seconds > 0 for entry in log.epochs)
    assert log.seconds == pytest.approx(sum(entry.seconds for entry in seen))


def test_a_batch_of_one_image_is_never_trained_on() -> None:
    sizes: list[int] = []
    network = models.build("resnet14_small", 2)
    network.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    images, labels = bars(9)
    train(network, images, labels, SHORT, MEAN, STD, 0)
    assert sizes == [8, 8, 8]


def test_loss_that_is_not_finite_is_an_error() -> None:
    network = models.build("resnet14_small", 2)
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))
    images, labels = bars(8)
    with pytest.raises(DivergedError, match=r"loss is nan in epoch 0, step 0.*Lower optimizer.lr"):
        train(network, images, labels, SHORT, MEAN, STD, 0)


def test_the_step_and_rate_of_a_divergence_are_named_and_training_ends_soon_after() -> None:
    images, labels = bars(8 * 3 * CHECK_STEPS)
    seen: list[int] = []
    network = models.build("resnet14_small", 2)

    def diverge(_: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor] | None:
        seen.append(len(seen))
        return (inputs[0] * math.inf,) if len(seen) == 4 else None

    network.register_forward_pre_hook(diverge)
    recipe = RecipeConfig(epochs=1, batch_size=8, schedule=ConstantConfig())
    with pytest.raises(DivergedError, match=r"epoch 0, step 3, at learning rate 0\.05; it must be"):
        train(network, images, labels, recipe, MEAN, STD, 0)
    assert len(seen) <= CHECK_STEPS


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_images_are_refused(count: int) -> None:
    images, labels = bars(8)
    with pytest.raises(DataError, match=f"{count} images and {count} labels.*at least 2"):
        train(models.build("vgg11_small", 2), images[:count], labels[:count], SHORT, MEAN, STD, 0)


@pytest.mark.parametrize("factor", [255.0, -1.0, float("nan")])
def test_pixels_outside_zero_to_one_are_refused(factor: float) -> None:
    images, labels = bars(8)
    with pytest.raises(DataError, match=r"must be in \[0, 1\]"):
        train(models.build("vgg11_small", 2), images * factor, labels, SHORT, MEAN, STD, 0)


def test_label_without_a_logit_is_refused() -> None:
    images, labels = bars(8)
    with pytest.raises(DataError, match=r"labels run from 2 to 3, but the network has 2 logits"):
        train(models.build("vgg11_small", 2), images, labels + 2, SHORT, MEAN, STD, 0)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_learns_as_well_and_keeps_float32_weights(precision: str) -> None:
    images, labels = bars(48)
    logs, networks = {}, {}
    for name in ("float32", precision):
        values = {"epochs": 8, "batch_size": 12, "precision": name}
        networks[name] = models.build("resnet14_small", 2)
        recipe = RecipeConfig.model_validate(values)
        logs[name] = train(networks[name], images, labels, recipe, MEAN, STD, 0)
    assert logs[precision].epochs[-1].accuracy > 0.9
    # It is another computation, and close to the exact one at first.
    first, exact = (logs[name].epochs[0].loss_nats for name in (precision, "float32"))
    assert first != exact
    assert first == pytest.approx(exact, rel=0.1)
    state = networks[precision].state_dict()
    assert {value.dtype for value in state.values()} == {torch.float32, torch.int64}


def test_step_whose_gradients_overflow_changes_no_weights_and_the_next_ones_do() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    recipe = RecipeConfig(precision="float16", clip_norm=1.0)
    step = Step(network, torch.optim.SGD(network.parameters(), lr=0.1), recipe, (0, 1))
    step.scaler.load_state_dict(step.scaler.state_dict() | {"scale": 2.0**60})
    labels = torch.tensor([0, 1])
    batch = PreparedBatch(torch.rand(2, 3, 2, 2), labels, labels)
    step.take(batch)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    for _ in range(60):
        step.take(batch)
    assert not torch.equal(network.state_dict()["1.weight"], before["1.weight"])
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())


@pytest.mark.nightly
def test_compiled_network_learns_the_same_and_goes_on_to_the_bit(tmp_path: Path) -> None:
    images, labels = bars(20)

    def run(
        compiled: bool, stop_after: int | None, path: Path
    ) -> tuple[dict[str, torch.Tensor], list[float]]:
        recipe = RecipeConfig(epochs=3, batch_size=8, compile=compiled)
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(4 * 14 * 14, 2),
        )

        def on_epoch(log: EpochLog) -> None:
            if log.epoch == stop_after:
                raise KeyboardInterrupt

        checkpoint = EpochCheckpoint(path)
        log = train(network, images, labels, recipe, MEAN, STD, 0, on_epoch, checkpoint)
        return network.state_dict(), [epoch.loss_nats for epoch in log.epochs]

    _, eager = run(False, None, tmp_path / "eager")
    state, losses = run(True, None, tmp_path / "compiled")
    assert losses == pytest.approx(eager, rel=1e-4)
    with pytest.raises(KeyboardInterrupt):
        run(True, 1, tmp_path / "part")
    torch.compiler.reset()  # as in another process
    went_on, _ = run(True, None, tmp_path / "part")
    assert went_on.keys() == state.keys()
    assert all(torch.equal(value, went_on[name]) for name, value in state.items())


@pytest.mark.nightly
def test_network_that_cannot_be_compiled_is_one_message(tmp_path: Path) -> None:
    program = """
import torch
from torch import nn
from ensemble.errors import ConfigError
from ensemble.training.step import compile_network

try:
    compile_network(nn.Sequential(nn.Flatten(), nn.Linear(12, 2), nn.GELU()))(torch.rand(2, 3, 2, 2))
except ConfigError as error:
    print(error)
"""
    environment = os.environ | {"CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("torch cannot compile the network")
    assert "Set compile=false in the recipe" in done.stdout
    assert len(done.stdout.splitlines()) == 1


class ValueReads(TorchDispatchMode):
    """Counts operators for which a host waits for a GPU, because they return a value or a shape that depends on one."""

    OPERATORS = ("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select")

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        self.count += func.overloadpacket.__name__ in self.OPERATORS
        return func(*args, **(kwargs or {}))


def test_no_step_reads_a_value_that_was_computed() -> None:
    images, labels = bars(8 * 2 * CHECK_STEPS)
    reads = ValueReads()
    counts: list[int] = []
    recipe = RecipeConfig(epochs=3, batch_size=8, label_smoothing=0.1)
    network = models.build("alexnet_small", 2)
    with reads:
        assert bool(torch.ones(()) > 0)
        assert reads.count  # they are counted
        train(network, images, labels, recipe, MEAN, STD, 0, lambda _: counts.append(reads.count))
    assert len(set(counts)) == 1


@pytest.mark.gpu
@needs_cuda
# torch says so when the mode is first set.
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("optimizer", [SgdConfig(), AdamWConfig()])
@pytest.mark.parametrize("are_bytes", [False, True])
def test_a_steady_epoch_never_waits_for_the_device(
    optimizer: SgdConfig | AdamWConfig, precision: str, are_bytes: bool
) -> None:
    device = torch.device("cuda")
    images, labels = bars(8 * 3 * CHECK_STEPS)
    pixels = (images * 255).to(torch.uint8) if are_bytes else images
    recipe = RecipeConfig.model_validate(
        {"epochs": 3, "batch_size": 8, "optimizer": optimizer, "precision": precision}
    )

    def on_epoch(log: EpochLog) -> None:
        # The first epoch chooses kernels and reserves memory.
        torch.cuda.set_sync_debug_mode("error" if log.epoch == 0 else "default")

    network = models.build("alexnet_small", 2).to(device)
    try:
        log = train(network, pixels, labels, recipe, MEAN, STD, 0, on_epoch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(log.epochs) == 3
    assert all(math.isfinite(entry.loss_nats) for entry in log.epochs)
