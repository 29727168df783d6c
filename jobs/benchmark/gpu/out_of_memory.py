"""Part 5: too little memory for a batch, twice: it is halved, that is remembered, and no row is wrong."""

import numpy as np
import torch
from torch import nn

from ensemble.images.shard import ImageShard
from ensemble.inference.forward import PreparedNetwork
from ensemble.inference.predict import BATCH_IMAGES, predict
from ensemble.members.member import Member
from jobs.benchmark.gpu.agreement import TOLERANCE, compare
from jobs.benchmark.gpu.material import input_side, make_member, make_network, make_shard
from jobs.benchmark.gpu.recorder import Recorder
from jobs.benchmark.gpu.settings import GpuBenchmarkConfig
from jobs.benchmark.report import Bar

# Parts of what a batch needs beside the weights, from large to small: the first one that does not suffice is
# taken. Some of what torch reserves is workspace, which cuDNN can do without.
_PARTS_OF_NEED = (0.6, 0.45, 0.35)


class Tight(nn.Module):
    """A network that runs out of memory with more than a few images, as on a small GPU.

    Args:
        network: The network.
        most: Largest batch that it takes.
    """

    def __init__(self, network: nn.Module, most: int) -> None:
        super().__init__()
        self.network, self.most, self.failures = network, most, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the logits of a batch.

        Raises:
            torch.OutOfMemoryError: The batch has more images than fit.
        """
        if len(images) > self.most:
            self.failures += 1
            raise torch.OutOfMemoryError(f"{len(images)} images")
        logits: torch.Tensor = self.network(images)
        return logits


def measure(config: GpuBenchmarkConfig, record: Recorder) -> None:
    """Predict a shard with memory enough, then twice with too little, and compare."""
    architecture = config.networks[0]
    if not record.has_time(f"{architecture} with too little memory", 10):
        return
    device, size = torch.device(config.device), input_side(architecture, config.input_size)
    member = make_member(architecture, size)
    # Little larger than the input, so that the network needs most of the memory, and not resizing.
    shard = make_shard(BATCH_IMAGES, round(1.15 * size), round(1.15 * size))
    network = make_network(architecture, size, device)
    if device.type == "cuda":
        weights, peak, expected = _predict_with_enough(network, member, shard, device)
        total = torch.cuda.mem_get_info()[1]
        for part in _PARTS_OF_NEED:
            torch.cuda.empty_cache()
            torch.cuda.set_per_process_memory_fraction((weights + part * (peak - weights)) / total)
            prepared = PreparedNetwork(network)
            first = _predict_and_count(prepared, network, member, shard, device)
            if prepared.largest_batch is not None:
                break
    else:
        expected = predict(PreparedNetwork(network), member, shard, device).log_probabilities
        network = Tight(network, BATCH_IMAGES // 4)
        prepared = PreparedNetwork(network)
        first = _predict_and_count(prepared, network, member, shard, device)
    second = _predict_and_count(prepared, network, member, shard, device)
    _report(expected, (first, second), prepared.largest_batch or BATCH_IMAGES, record)


def _predict_with_enough(
    network: nn.Module, member: Member, shard: ImageShard, device: torch.device
) -> tuple[int, int, np.ndarray]:
    """Predict with all of the GPU; return the bytes of the weights, the peak in bytes, and the rows."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    weights = torch.cuda.memory_allocated()
    rows = predict(PreparedNetwork(network), member, shard, device).log_probabilities
    # `predict` resets the peak when it begins, and nothing else ran since.
    return weights, torch.cuda.max_memory_reserved(), rows


def _predict_and_count(
    prepared: PreparedNetwork,
    network: nn.Module,
    member: Member,
    shard: ImageShard,
    device: torch.device,
) -> tuple[np.ndarray, int]:
    """Predict a shard; return the rows, and how often memory did not suffice."""
    before = _failures(network)
    rows = predict(prepared, member, shard, device).log_probabilities
    return rows, _failures(network) - before


def _failures(network: nn.Module) -> int:
    """Count the allocations that failed so far."""
    if isinstance(network, Tight):
        return network.failures
    return int(torch.cuda.memory_stats()["num_ooms"])


def _report(
    expected: np.ndarray,
    rounds: tuple[tuple[np.ndarray, int], tuple[np.ndarray, int]],
    largest_batch: int,
    record: Recorder,
) -> None:
    agreements = [compare(expected, rows) for rows, _ in rounds]
    failures = [count for _, count in rounds]
    record.figure("failures_by_shard", failures)
    record.figure("batch", largest_batch)
    largest = float(np.max([agreement.largest for agreement in agreements]))
    answers = sum(agreement.answers for agreement in agreements)
    for name, measured, bar in (
        ("out of memory: images in a batch, once it is halved", largest_batch, BATCH_IMAGES // 2),
        ("out of memory: failures in the second shard", failures[1], 0),
        ("out of memory: largest difference of the rows, nats", largest, TOLERANCE),
        ("out of memory: answers that differ, no near-ties", answers, 0),
    ):
        record.judge(Bar(name, measured, "<=", bar), "answers")
