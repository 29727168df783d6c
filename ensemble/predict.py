"""The one inference loop: a network, a member's views, a shard; out comes a block."""

import math
import time
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from ensemble.images.shard import ImageShard
from ensemble.members import Member, list_views
from ensemble.table.block import LogitBlock
from ensemble.views import apply_view, batches, normalise, to_input

BATCH_IMAGES = 64


def predict(
    network: nn.Module,
    member: Member,
    shard: ImageShard,
    device: torch.device,
    flops_per_image: int | None = None,
) -> LogitBlock:
    """Predict the images of a shard under every view of the member.

    Args:
        network: The member's network, in evaluation mode.
        member: Whose preprocessing and views to use.
        shard: Decoded images.
        device: Where the network is.
        flops_per_image: As counted by `count_flops`, for the block.
    """
    held = _begin_gpu_peak(device)
    started = time.perf_counter()
    to = member.preprocessing
    images = to_input([shard], to.size, to.resize, to.interpolation).to(device)
    rows = predict_input(network, member, images)
    return LogitBlock(
        column=member.column,
        image_ids=shard.image_ids,
        log_probabilities=rows,
        bad=shard.bad,
        seconds=time.perf_counter() - started,
        forward_passes=len(images) * len(list_views(member.views)),
        flops_per_image=flops_per_image,
        gpu_bytes=None if held is None else _gpu_peak(network, device) - held,
    )


def count_flops(network: nn.Module, member: Member, device: torch.device) -> int:
    """Count the floating-point operations for one image under all views; costs one forward pass.

    A multiplication and the addition after it are two. Convolutions, products of matrices and
    attention are counted; what is done for each element alone is not.
    """
    from torch.utils.flop_counter import FlopCounterMode

    size = member.preprocessing.size
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(torch.zeros(1, 3, size, size, device=device))
    return int(counter.get_total_flops()) * len(list_views(member.views))


def _begin_gpu_peak(device: torch.device) -> int | None:
    """Forget the peak so far; give the bytes that are in use now, other members' weights included."""
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _gpu_peak(network: nn.Module, device: torch.device) -> int:
    """Give the peak since then, plus the network's own weights, which were in use before."""
    own = [*network.parameters(), *network.buffers()]
    weights = sum(tensor.numel() * tensor.element_size() for tensor in own)
    return torch.cuda.max_memory_allocated(device) + weights


def predict_input(
    network: Callable[[torch.Tensor], torch.Tensor],
    member: Member,
    images: Float[torch.Tensor, "image 3 size size"],
) -> Float[np.ndarray, "image class"]:
    """Log of the softmax averaged over views, in nats, of images at the input's size."""
    views = list_views(member.views)
    rows = [np.empty((0, len(member.classes)), np.float32)]
    with torch.inference_mode():
        for batch, count in batches(images, BATCH_IMAGES):
            each = [
                torch.log_softmax(
                    network(normalise(apply_view(batch, view), member.preprocessing)), dim=1
                )
                for view in views
            ]
            mean = torch.logsumexp(torch.stack(each), dim=0) - math.log(len(views))
            rows.append(mean[:count].cpu().numpy())
    return np.concatenate(rows)
