"""Part 2: one member alone, from decoded photographs to rows, beside its bare network on tensors in memory."""

from collections.abc import Callable

import torch

from ensemble.inference.device import full_float32
from ensemble.inference.forward import PreparedNetwork
from ensemble.inference.predict import BATCH_IMAGES, predict
from ensemble.inference.resized import ResizedShard
from jobs.benchmark.gpu.material import (
    input_side,
    make_member,
    make_network,
    make_shard,
    seconds_of,
    timed_in_turn,
)
from jobs.benchmark.gpu.recorder import Recorder
from jobs.benchmark.gpu.settings import GpuBenchmarkConfig
from jobs.benchmark.report import Bar

SPEED_BAR = 0.92

# Holds all resized photographs of a round, so that a second reading of them costs nothing.
_CACHE_BYTES = 8 << 30
# What a network of 150 layers takes to compile on few cores.
_COMPILE_S = 60


def measure(config: GpuBenchmarkConfig, record: Recorder) -> None:
    """Time each network, eager first because compiling may take the rest of the time."""
    for compiled in (False, True) if config.compiled else (False,):
        for architecture in config.networks:
            mode = "compiled" if compiled else "eager"
            if record.has_time(f"{architecture}, {mode}", _COMPILE_S if compiled else 12):
                _measure_network(config, architecture, mode, record)
    if not config.compiled:
        record.leave_out("compiled networks: compiled=false.")


def _measure_network(
    config: GpuBenchmarkConfig, architecture: str, mode: str, record: Recorder
) -> None:
    device = torch.device(config.device)
    size = input_side(architecture, config.input_size)
    member = make_member(architecture, size, precision="bfloat16")
    shard = make_shard(config.shards * BATCH_IMAGES, config.width, config.height)
    network = make_network(architecture, size, device)
    prepared = PreparedNetwork(
        network, "bfloat16", channels_last=True, compiled=mode == "compiled"
    ).eval()
    # `PreparedNetwork` changed the network itself, so this is the same one without its wrapper; a compiled
    # one keeps it, or it would be compiled once more. For logits and pixels as they are it does nothing.
    bare = prepared if mode == "compiled" else network
    batch = torch.rand(BATCH_IMAGES, 3, size, size, device=device)
    batch = batch.to(torch.bfloat16, memory_format=torch.channels_last)
    kept = ResizedShard(shard, device, _CACHE_BYTES)

    def run_bare() -> None:
        # As in `predict`: a compiled network is compiled anew where such a setting of torch changes.
        with torch.inference_mode(), full_float32():
            for _ in range(config.shards):
                bare(batch)

    ways: dict[str, Callable[[], object]] = {
        "bare": run_bare,
        "predict": lambda: predict(prepared, member, shard, device),
        "predict from resized images": lambda: predict(prepared, member, shard, device, kept),
    }
    first_s = seconds_of(ways["predict"], device)
    seconds = timed_in_turn(ways, device, config.repeats)
    images = len(shard)
    bare_s, predict_s, resized_s = seconds.values()
    record.figure(
        f"{architecture}, {mode}",
        {
            "bare_images_per_s": images / bare_s,
            "predict_images_per_s": images / predict_s,
            "first_round_s": first_s,
            "share_of_network": bare_s / predict_s,
            "share_of_copies_and_resizing": (predict_s - resized_s) / predict_s,
            "share_of_normalising_and_averaging": (resized_s - bare_s) / predict_s,
        },
    )
    record.say(
        f"{architecture}, {mode}: bare {images / bare_s:,.0f} images/s, predict "
        f"{images / predict_s:,.0f}; of its time {bare_s / predict_s:.0%} network, "
        f"{(predict_s - resized_s) / predict_s:.0%} copies and resizing, "
        f"{(resized_s - bare_s) / predict_s:.0%} normalising and averaging"
    )
    name = f"{architecture}, {mode}: images/s of predict, x bare network"
    record.judge(Bar(name, bare_s / predict_s, ">=", SPEED_BAR), "times")
