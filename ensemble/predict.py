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
    network: nn.Module, member: Member, shard: ImageShard, device: torch.device
) -> LogitBlock:
    """Predict the images of a shard under every view of the member.

    Args:
        network: The member's network, in evaluation mode.
        member: Whose preprocessing and views to use.
        shard: Decoded images.
        device: Where the network is.
    """
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
    )


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
