"""The inference loop: predict the images of a shard under all views of a member.

The size of a batch follows from the view and the image's size alone; a batch with fewer images is
filled up with black ones. The reason: torch chooses kernels by the size of the batch, and they round
differently, so that an image's prediction would depend on the images beside it.
"""

import math
import time
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import nn

from ensemble.errors import ShapeError
from ensemble.images.shard import ImageShard
from ensemble.inference.dense import to_dense
from ensemble.inference.device import device_kind, full_float32
from ensemble.inference.resized import ResizedShard, without_strips
from ensemble.inference.staging import index_of
from ensemble.inference.transforms import Scale, join_normalised, show, square_scale
from ensemble.members.member import Member
from ensemble.members.settings import Preprocessing
from ensemble.table.block import LogitBlock
from ensemble.views.policies import relative_cost, weigh_views
from ensemble.views.settings import Average, Crop, Square, View, Whole, average_of

WeightedViews = tuple[tuple[View, float], ...]

# Rows of the shard, weight of the view, and the logits of these rows under the view.
ViewLogits = tuple[Sequence[int], float, torch.Tensor]

BATCH_IMAGES = 64

# Pixels of a batch of whole images. On a CPU one large image keeps the cores as busy as sixteen do,
# and a batch that is not full wastes less than one image of 224 x 224.
_BATCH_PIXELS = {"cpu": 224 * 224, "cuda": BATCH_IMAGES * 224 * 224}


def predict(
    network: nn.Module,
    member: Member,
    shard: ImageShard,
    device: torch.device,
    images: ResizedShard | None = None,
    flops_per_image: int | None = None,
    pads_batches: bool = True,
) -> LogitBlock:
    """Predict the images of a shard under every view of the member.

    Args:
        network: Network of the member, in evaluation mode.
        member: Member whose preprocessing and views are used.
        shard: Decoded images.
        device: Device of the network.
        images: The same shard on the device, with the images that other members resized.
        flops_per_image: Result of `count_flops`, which is recorded in the block.
        pads_batches: Fill the last batch up, so that the rows of an image have the same bits whatever
            other images stand beside it, as a table needs; one image then costs a whole batch.

    Raises:
        ConfigError: A view does not fit the network or its input.
        ShapeError: The network's outputs are not one per class of the member.
    """
    bytes_before = _begin_gpu_peak(device)
    started = time.perf_counter()
    preprocessing = member.preprocessing
    views = weigh_views(member.views, preprocessing.size)
    bounded = without_strips(shard, preprocessing, [view for view, _ in views])
    if images is None or bounded is not shard:
        images = ResizedShard(bounded, device)
    shard = bounded
    mean = _Mean(len(shard), len(member.classes), average_of(member.views), device)
    with torch.inference_mode(), full_float32():
        for rows, weight, logits in chain(
            _fixed(network, preprocessing, images, views, pads_batches),
            _dense(network, preprocessing, images, views, pads_batches),
        ):
            mean.add(rows, weight, logits)
    return LogitBlock(
        column=member.column,
        image_ids=shard.image_ids,
        log_probabilities=mean.result(),
        bad=shard.bad,
        seconds=time.perf_counter() - started,
        forward_passes=len(shard) * len(views),
        flops_per_image=flops_per_image,
        gpu_bytes=None if bytes_before is None else _gpu_peak(network, device) - bytes_before,
        device_kind=device_kind(device),
    )


def count_flops(network: nn.Module, member: Member, device: torch.device) -> int:
    """Count the floating-point operations for one image under all views; costs one forward pass.

    A multiplication and the addition after it count as two. Convolutions, matrix products and
    attention are counted; element-wise operations are not. A whole image counts by its pixels, as
    if it were square.
    """
    from torch.utils.flop_counter import FlopCounterMode

    size = member.preprocessing.size
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(torch.zeros(1, 3, size, size, device=device))
    return round(counter.get_total_flops() * relative_cost(member.views, size))


def _begin_gpu_peak(device: torch.device) -> int | None:
    """Reset the peak, and return the bytes in use now, other members' weights included."""
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _gpu_peak(network: nn.Module, device: torch.device) -> int:
    """Return the peak since the reset, plus the network's own weights, which were in use before."""
    own = [*network.parameters(), *network.buffers()]
    weights = sum(tensor.numel() * tensor.element_size() for tensor in own)
    return torch.cuda.max_memory_allocated(device) + weights


def _fixed(
    network: nn.Module,
    preprocessing: Preprocessing,
    images: ResizedShard,
    views: WeightedViews,
    pads_batches: bool,
) -> Iterator[ViewLogits]:
    """Compute the logits of squares and crops, which all have the size of the network's input."""
    scale_of_squares = square_scale(preprocessing.size, preprocessing.resize)
    by_scale: dict[Scale, list[tuple[Square | Crop, float]]] = {}
    for view, weight in views:
        if isinstance(view, Square):
            by_scale.setdefault(scale_of_squares, []).append((view, weight))
        elif isinstance(view, Crop):
            by_scale.setdefault((view.short_side,), []).append((view, weight))
    for start in range(0, len(images.shard), BATCH_IMAGES):
        rows = range(start, min(start + BATCH_IMAGES, len(images.shard)))
        for scale, scale_views in by_scale.items():
            parts = [
                (
                    index_of([row - start for row in same], images.device),
                    images.at(same, scale, preprocessing.interpolation),
                )
                for same in images.by_shape(rows)
            ]
            for view, weight in scale_views:
                squares = [
                    (places, show(resized, view, preprocessing)) for places, resized in parts
                ]
                size = BATCH_IMAGES if pads_batches else len(rows)
                batch = join_normalised(squares, size, preprocessing)
                yield rows, weight, network(batch)[: len(rows)]


def _dense(
    network: nn.Module,
    preprocessing: Preprocessing,
    images: ResizedShard,
    views: WeightedViews,
    pads_batches: bool,
) -> Iterator[ViewLogits]:
    """Compute the logits of whole images, those of one size together, by the fully convolutional network."""
    by_side: dict[int, list[tuple[Whole, float]]] = {}
    for view, weight in views:
        if isinstance(view, Whole):
            by_side.setdefault(view.short_side, []).append((view, weight))
    if not by_side or not len(images.shard):
        return
    dense = to_dense(network, preprocessing.size)
    for side, side_views in by_side.items():
        for same in images.by_shape(range(len(images.shard))):
            size = _dense_batch(images.sides(same[0]), side, images.device)
            for start in range(0, len(same), size):
                rows = same[start : start + size]
                resized = images.at(rows, (side,), preprocessing.interpolation)
                for view, weight in side_views:
                    whole = resized.flip(3) if view.flip else resized
                    batch = join_normalised(
                        [(slice(0, len(rows)), whole)],
                        size if pads_batches else len(rows),
                        preprocessing,
                    )
                    yield rows, weight, dense(batch)[: len(rows)]


def _dense_batch(sides: tuple[int, int], short_side: int, device: torch.device) -> int:
    pixels = short_side**2 * max(sides) // min(sides)
    return min(BATCH_IMAGES, max(1, _BATCH_PIXELS[device.type] // pixels))


class _Mean:
    """The weighted mean over views, in float64 so that the order of 150 of them does not matter."""

    def __init__(self, images: int, classes: int, average: Average, device: torch.device) -> None:
        self._is_geometric = average == "geometric"
        start = 0.0 if self._is_geometric else -math.inf
        self._sum = torch.full((images, classes), start, dtype=torch.float64, device=device)

    def add(
        self, rows: Sequence[int], weight: float, logits: Float[torch.Tensor, "image class"]
    ) -> None:
        """Add the logits of some images under one view.

        Args:
            rows: Rows of the images in the shard.
            weight: Weight of the view in the mean.
            logits: Logits of the images.
        """
        if logits.shape[1] != self._sum.shape[1]:
            raise ShapeError(
                f"the network gives {logits.shape[1]} numbers an image, and its member has "
                f"{self._sum.shape[1]} classes. Give the checkpoint that belongs to the classes."
            )
        logs = torch.log_softmax(logits, dim=1).to(torch.float64)
        index = index_of(rows, logs.device)
        total = self._sum[index]
        if self._is_geometric:
            self._sum[index] = total + weight * logs
        else:
            self._sum[index] = torch.logaddexp(total, logs + math.log(weight))

    def result(self) -> Float32[np.ndarray, "image class"]:
        """Return the log of the mean, in nats."""
        mean = torch.log_softmax(self._sum, dim=1) if self._is_geometric else self._sum
        # The weights sum to 1 only up to rounding, and no probability may be above 1.
        return mean.clamp(max=0).to(torch.float32).cpu().numpy()
