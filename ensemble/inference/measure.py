"""Measure a member on a device: warm it up before its time is taken, and record its peak memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ensemble.images.shard import ImageShard
from ensemble.inference.predict import predict
from ensemble.members.member import Member

_MB = 1 << 20


@dataclass
class Peak:
    """Memory that a block of code needed; filled in when the block ends.

    Attributes:
        mb: Peak memory of the weights and the batches, in MB of 2^20 bytes.
        batch_mb: The part of it that is no weights, in MB; 0 on CPUs.
        device_mb: Memory of the whole GPU, in MB; None on CPUs.
    """

    mb: float = 0.0
    batch_mb: float = 0.0
    device_mb: float | None = None


def warm_up(network: nn.Module, member: Member, shard: ImageShard, device: torch.device) -> None:
    """Predict one image under each view, so that kernels are chosen, memory is reserved and code is compiled.

    Does nothing on CPUs, where a first batch costs as much as any other, and 144 views cost minutes.
    """
    if device.type != "cuda":
        return
    first = list(shard.images())[:1]
    if first:
        ids = [str(image_id) for image_id in shard.image_ids[:1]]
        predict(network, member, ImageShard.pack(ids, [np.array(first[0])]), device)


@contextmanager
def peak_memory(network: nn.Module, device: torch.device) -> Iterator[Peak]:
    """Measure the memory that torch reserves on a GPU during a block of code; on CPUs, the weights alone.

    Args:
        network: The network that the block runs, already on the device.
        device: Device of the network.
    """
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        weights = _weights_bytes(network)
        others = torch.cuda.memory_allocated() - weights
        yield peak
        peak.device_mb = torch.cuda.mem_get_info()[1] / _MB
        batch = max(0, torch.cuda.max_memory_reserved() - others - weights)
        peak.mb, peak.batch_mb = (weights + batch) / _MB, batch / _MB
    else:
        yield peak
        peak.mb = _weights_bytes(network) / _MB


def _weights_bytes(network: nn.Module) -> int:
    tensors = [*network.parameters(), *network.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
