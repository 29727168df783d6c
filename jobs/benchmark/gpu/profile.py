"""Part 7: what the GPU does while a member predicts and while one trains, by torch's profiler."""

from collections.abc import Callable
from dataclasses import asdict

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity

from ensemble.inference.forward import PreparedNetwork
from ensemble.inference.predict import BATCH_IMAGES, predict
from ensemble.models import registry as models
from ensemble.training.loop import train
from jobs.benchmark.gpu.material import (
    input_side,
    make_member,
    make_network,
    make_shard,
    synchronise,
)
from jobs.benchmark.gpu.recorder import Recorder
from jobs.benchmark.gpu.settings import GpuBenchmarkConfig
from jobs.benchmark.gpu.trace import Account, Activity, account
from jobs.benchmark.gpu.training import CLASSES, make_images, make_recipe

# Events of more batches say the same and take the profiler minutes to sort.
_SHARDS, _STEPS = 3, 6


def measure(config: GpuBenchmarkConfig, record: Recorder) -> None:
    """Profile a prediction and a training, and say what would bring the next 10 %."""
    if record.has_time(f"{config.networks[0]} predicts", 12):
        _report("predicting", _profile_predict(config), record)
    for architecture in config.trainings[:2]:
        if record.has_time(f"{architecture} trains", 12):
            _report(f"training {architecture}", _profile_training(config, architecture), record)


def _profile_predict(config: GpuBenchmarkConfig) -> Account:
    device, architecture = torch.device(config.device), config.networks[0]
    size = input_side(architecture, config.input_size)
    member = make_member(architecture, size, precision="bfloat16")
    shard = make_shard(_SHARDS * BATCH_IMAGES, config.width, config.height)
    network = make_network(architecture, size, device)
    prepared = PreparedNetwork(network, "bfloat16", channels_last=True).eval()
    return _profiled(lambda: predict(prepared, member, shard, device), device)


def _profile_training(config: GpuBenchmarkConfig, architecture: str) -> Account:
    device = torch.device(config.device)
    size = input_side(architecture, config.input_size)
    small = config.model_copy(update={"steps": min(config.steps, _STEPS)})
    images, labels = make_images(small, size, device)
    network = models.build(architecture, CLASSES).to(device)
    recipe = make_recipe(small, size).model_copy(update={"epochs": 1})
    half = (0.5, 0.5, 0.5)
    return _profiled(lambda: train(network, images, labels, recipe, half, half, seed=0), device)


def _profiled(run: Callable[[], object], device: torch.device) -> Account:
    """Profile a piece of work after a round of it that warms up."""
    run()
    synchronise(device)
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        run()
        synchronise(device)
    kind = DeviceType.CUDA if device.type == "cuda" else DeviceType.CPU
    return account(
        [
            Activity(event.name, event.time_range.start, event.time_range.end)
            for event in profiler.events()
            # Of nested operators of a CPU, the outermost stands for those within.
            if event.device_type == kind
            and (kind == DeviceType.CUDA or event.cpu_parent is None)
            # A span of the program's own, as that of an optimiser's step: what it holds is listed itself.
            and not event.is_user_annotation
        ]
    )


def _report(what: str, result: Account, record: Recorder) -> None:
    record.figure(what, asdict(result) | {"next": result.advice()})
    shares = ", ".join(f"{name} {share:.0%}" for name, share in result.shares.items())
    record.say(
        f"{what}: {result.launches:,} launches ({result.copies:,} copies) in {result.span_ms:,.1f} ms: "
        f"{shares}"
    )
    for name, share in result.longest.items():
        record.say(f"    {share:6.1%}  {name}")
    record.say(f"    the next 10 %: {result.advice()}")
