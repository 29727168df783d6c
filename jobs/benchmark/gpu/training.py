"""Part 6: training beside a bare loop, and how often a step waits for the GPU."""

import statistics
import warnings
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ensemble.models import registry as models
from ensemble.training.augmentation_settings import AugmentationConfig
from ensemble.training.loop import EpochLog, train
from ensemble.training.optimizer_settings import SgdConfig
from ensemble.training.recipe import RecipeConfig
from ensemble.training.schedule_settings import ConstantConfig
from jobs.benchmark.gpu.material import input_side, seconds_of
from jobs.benchmark.gpu.recorder import Recorder
from jobs.benchmark.gpu.settings import GpuBenchmarkConfig
from jobs.benchmark.report import Bar

CLASSES = 100
_EPOCHS = 4
# What a network of 200 layers takes to compile, forward and backward, on few cores.
_COMPILE_S = 240
# Times as fast as the plain network that a compiled one of many small kernels is to be trained.
_COMPILED_BAR, _JUDGED_COMPILED = 1.5, "pyramidnet196_a48"
_SYNCHRONISING = "called a synchronizing CUDA operation"
_MEAN, _STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def measure(config: GpuBenchmarkConfig, record: Recorder) -> None:
    """Time each training and its bare loop, and count the synchronisations of a steady epoch."""
    eager: dict[str, float] = {}
    for architecture in config.trainings:
        if record.has_time(f"{architecture}: training and bare loop", 20):
            eager[architecture] = _measure_training(config, architecture, record)
    if not config.compiled:
        record.leave_out("compiled trainings: compiled=false.")
        return
    for architecture, images_per_s in eager.items():
        if record.has_time(f"{architecture}: training, compiled", _COMPILE_S):
            _measure_compiled(config, architecture, images_per_s, record)


def make_recipe(config: GpuBenchmarkConfig, size: int) -> RecipeConfig:
    """Make a recipe as for photographs: bfloat16, random crops and mirror images."""
    return RecipeConfig(
        input_size=size,
        epochs=_EPOCHS,
        batch_size=config.batch_size,
        optimizer=SgdConfig(lr=0.01),
        schedule=ConstantConfig(),
        augmentation=AugmentationConfig(
            max_rotation_degrees=0, min_scale=1, max_scale=1, flip_probability=0.5
        ),
        precision="bfloat16",
    )


def make_images(
    config: GpuBenchmarkConfig, size: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Make images in [0, 1] and labels for one epoch."""
    count = config.steps * config.batch_size
    generator = torch.Generator(device).manual_seed(0)
    images = torch.rand(count, 3, size, size, device=device, generator=generator)
    return images, torch.randint(CLASSES, (count,), device=device, generator=generator)


def _measure_compiled(
    config: GpuBenchmarkConfig, architecture: str, eager_per_s: float, record: Recorder
) -> None:
    """Time the training of a compiled network, and compare it with that of the plain one."""
    device = torch.device(config.device)
    size = input_side(architecture, config.training_size)
    images, labels = make_images(config, size, device)
    network = models.build(architecture, CLASSES).to(device)
    recipe = make_recipe(config, size).model_copy(update={"compile": True})
    log = train(network, images, labels, recipe, _MEAN, _STD, seed=0).epochs
    per_s = len(images) / statistics.median(epoch.seconds for epoch in log[1:])
    speedup = per_s / eager_per_s
    name = f"{architecture}: images/s compiled, x eager"
    if architecture == _JUDGED_COMPILED:
        record.judge(Bar(name, speedup, ">=", _COMPILED_BAR), "times")
    record.figure(
        f"{architecture}, compiled",
        {"images_per_s": per_s, "x_eager": speedup, "first_epoch_s": log[0].seconds},
    )
    record.say(f"{architecture}, compiled: {per_s:,.0f} images/s, {speedup:.2f} x eager")


def _measure_training(config: GpuBenchmarkConfig, architecture: str, record: Recorder) -> float:
    """Time a training and its bare loop; return the images per second of the training."""
    device = torch.device(config.device)
    size = input_side(architecture, config.training_size)
    images, labels = make_images(config, size, device)
    network = models.build(architecture, CLASSES).to(device)
    recipe = make_recipe(config, size)
    bare_s = _bare_epoch(network, images, labels, recipe, device)
    log, waits = _train_and_count(network, images, labels, recipe, device)
    # The first epoch warms up; the last one is slowed by the warnings that are counted.
    ours_s = statistics.median(epoch.seconds for epoch in log[1:-1])
    figures: dict[str, Any] = {
        "bare_images_per_s": len(images) / bare_s,
        "images_per_s": len(images) / ours_s,
        "ratio": bare_s / ours_s,
    }
    if waits is not None:
        figures["synchronisations_per_step"] = waits / config.steps
        # The wait for the last step is one for an event, which torch does not count.
        name = f"{architecture}: synchronisations in a steady epoch"
        record.judge(Bar(name, waits, "<=", 0), "answers")
    else:
        record.leave_out(f"{architecture}: synchronisations: there is no GPU to wait for.")
    record.figure(architecture, figures)
    record.say(
        f"{architecture}: {len(images) / ours_s:,.0f} images/s, bare loop "
        f"{len(images) / bare_s:,.0f}, ratio {bare_s / ours_s:.3f}"
    )
    return len(images) / ours_s


def _train_and_count(
    network: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    recipe: RecipeConfig,
    device: torch.device,
) -> tuple[list[EpochLog], int | None]:
    """Train, and count how often the host waited for the GPU in the last epoch; None on a CPU."""
    log: list[EpochLog] = []

    def on_epoch(epoch: EpochLog) -> None:
        log.append(epoch)
        if device.type == "cuda" and len(log) == recipe.epochs - 1:
            torch.cuda.set_sync_debug_mode("warn")
        elif device.type == "cuda" and len(log) == recipe.epochs:
            torch.cuda.set_sync_debug_mode("default")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(network, images, labels, recipe, _MEAN, _STD, seed=0, on_epoch=on_epoch)
    if device.type != "cuda":
        return log, None
    return log, sum(_SYNCHRONISING in str(warning.message) for warning in caught)


def _bare_epoch(
    network: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    recipe: RecipeConfig,
    device: torch.device,
) -> float:
    """Time an epoch of forward, backward and step on images that are prepared already."""
    network.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, nesterov=True)
    prepared = ((images - 0.5) / 0.25).contiguous(memory_format=torch.channels_last)
    batches = list(
        zip(
            torch.split(prepared, recipe.batch_size),
            torch.split(labels, recipe.batch_size),
            strict=True,
        )
    )

    def epoch() -> None:
        for batch, targets in batches:
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16):
                logits = network(batch).float()
            torch.autograd.backward(functional.cross_entropy(logits, targets))
            optimizer.step()

    epoch()
    return statistics.median(seconds_of(epoch, device) for _ in range(2))
