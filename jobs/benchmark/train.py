"""`ensemble benchmark train`: the training loop against a plain one, and photographs against decoding alone.

On a CPU, decoding and training share the cores, so that images are counted by CPU seconds: what else runs on the
machine does not change them.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, PositiveInt
from rich.console import Console
from torch import nn
from torch.nn import functional

from ensemble.members.source_settings import Architecture
from ensemble.models import registry as models
from ensemble.training.loop import EpochLog, train
from ensemble.training.optimizer_settings import SgdConfig
from ensemble.training.recipe import RecipeConfig
from ensemble.training.schedule_settings import ConstantConfig
from jobs.benchmark.photographs import make_photographs, measure_photographs
from jobs.benchmark.process_cpu import torch_threads
from jobs.benchmark.report import (
    Bar,
    Begin,
    BenchmarkConfig,
    BenchmarkReport,
    finish,
    read_config,
    step_printer,
)

LOOP_BAR, PHOTOGRAPHS_BAR, MEMORY_BAR_GB = 0.97, 0.9, 2.0
_CLASSES, _LR = 10, 1e-3
_MEAN, _STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


class TrainBenchmarkConfig(BenchmarkConfig):
    """Sizes of what is trained on."""

    full_size: ClassVar = {"rounds": 51, "photographs": 20_000}

    architecture: Architecture = "resnet14_small"
    """Network of the loops."""
    input_size: PositiveInt = 32
    """Side of its input, in pixels."""
    images: PositiveInt = 256
    """Number of images in an epoch of the loops."""
    batch_size: PositiveInt = 64
    """Number of images in a step."""
    rounds: PositiveInt = 21
    """Epochs of both loops, in turn, that are timed."""
    photographs: PositiveInt = 4000
    """Number of made-up JPEGs."""
    width: PositiveInt = 500
    """Width of each, in pixels."""
    height: PositiveInt = 375
    """Height of each, in pixels."""
    photograph_sizes: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (64, 224)
    """Sides of the inputs that are cut out of them, in pixels; each is measured."""
    threads: PositiveInt = 1
    """Threads that decode and compute."""
    seed: int = 0
    """Seed of all that is made up."""
    out: Path = Path("train-benchmark.json")
    """JSON file that the bars and figures are written to."""


def benchmark_train(
    words: Sequence[str], console: Console, is_full: bool = False
) -> BenchmarkReport:
    """Time both, print the figures, and write them to a file.

    Raises:
        ConfigError: A setting is unknown or has a wrong value, or the file cannot be written.
    """
    config = read_config(TrainBenchmarkConfig, words, is_full)
    report = measure(config, step_printer(console))
    return finish(report, config.out, console)


def measure(config: TrainBenchmarkConfig, begin: Begin) -> BenchmarkReport:
    """Time the loop and the photographs."""
    begin(f"{config.rounds + 1} epochs of both loops in turn")
    with torch_threads(config.threads):
        loop = measure_loop(config)
    with tempfile.TemporaryDirectory(prefix="ens-bench-") as name:
        folder = Path(name)
        begin(f"make {config.photographs:,} JPEGs of {config.width} x {config.height}")
        make_photographs(folder, config.photographs, (config.width, config.height), config.seed)
        photographs = {}
        for size in config.photograph_sizes:
            begin(f"decode them, and train on {size} pixels of each, in a process of its own")
            photographs[size] = measure_photographs(folder, size, config.batch_size, config.threads)
    bars = [Bar("images/s of the loop, x a plain loop", loop["ratio"], ">=", LOOP_BAR)]
    for size, epoch in photographs.items():
        what = f"photographs/s at {size} pixels, x decoding"
        bars += [
            Bar(f"{what} alone", epoch.ratio, ">=", PHOTOGRAPHS_BAR),
            Bar(f"{what} and resizing alone", epoch.resized_ratio, ">=", PHOTOGRAPHS_BAR),
            Bar(
                f"memory over the start at {size} pixels, GB", epoch.memory_gb, "<=", MEMORY_BAR_GB
            ),
        ]
    left_out = (
        "on a GPU: `ensemble benchmark gpu 'parts=[training]' limit_s=1500` times ResNet-18, PyramidNet-196 and Wide "
        "ResNet 28-10 there, plain and compiled.",
    )
    figures = {
        "loop": loop,
        "photographs": {str(size): epoch.figures() for size, epoch in photographs.items()},
    }
    return BenchmarkReport(config.model_dump(mode="json"), tuple(bars), figures, left_out)


def measure_loop(config: TrainBenchmarkConfig) -> dict[str, Any]:
    """Time epochs of the loop and of a plain one, in turn, on a CPU; the first of each warms up."""
    generator = torch.Generator().manual_seed(config.seed)
    size = config.input_size
    images = torch.rand(config.images, 3, size, size, generator=generator)
    labels = torch.randint(_CLASSES, (config.images,), generator=generator)
    recipe = RecipeConfig(
        input_size=size,
        epochs=config.rounds + 1,
        batch_size=config.batch_size,
        optimizer=SgdConfig(lr=_LR),
        schedule=ConstantConfig(),
        augmentation=None,
    )
    plain_epoch = _plain_loop(config, recipe, images, labels)
    network = models.build(config.architecture, _CLASSES, config.seed)
    ours_s, plain_s = list[float](), list[float]()
    began = time.process_time()

    def on_epoch(_: EpochLog) -> None:
        nonlocal began
        ours_s.append(time.process_time() - began)
        plain_s.append(_cpu_seconds(plain_epoch))
        began = time.process_time()

    train(network, images, labels, recipe, _MEAN, _STD, config.seed, on_epoch)
    pairs = list(zip(ours_s, plain_s, strict=True))[1:]
    return {
        "images_per_cpu_s": config.images / statistics.median(ours for ours, _ in pairs),
        "plain_images_per_cpu_s": config.images / statistics.median(plain for _, plain in pairs),
        # What disturbs a round disturbs both.
        "ratio": statistics.median(plain / ours for ours, plain in pairs),
        "ratios": [plain / ours for ours, plain in pairs],
    }


def _plain_loop(
    config: TrainBenchmarkConfig, recipe: RecipeConfig, images: torch.Tensor, labels: torch.Tensor
) -> Callable[[], None]:
    """Make an epoch of a loop as one writes it by hand: images are normalised already, and nothing is read back."""
    network = models.build(config.architecture, _CLASSES, config.seed)
    network.train().to(memory_format=torch.channels_last)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (_MEAN, _STD))
    prepared = ((images - mean) / std).contiguous(memory_format=torch.channels_last)
    settings = recipe.optimizer.model_dump(include={"lr", "momentum", "nesterov", "weight_decay"})
    optimizer = torch.optim.SGD(network.parameters(), **settings)

    def epoch() -> None:
        for rows in torch.split(torch.randperm(len(prepared)), config.batch_size):
            _plain_step(network, optimizer, prepared[rows], labels[rows])

    return epoch


def _plain_step(
    network: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor
) -> None:
    optimizer.zero_grad()
    torch.autograd.backward(functional.cross_entropy(network(images), labels))
    optimizer.step()


def _cpu_seconds(work: Callable[[], None]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began
