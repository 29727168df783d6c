"""What a member has learnt: the filters of its first layer, and the training images that it takes for alike."""

import base64
import io

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import nn
from torch.nn import functional

from ensemble.images.index import ImageIndex
from ensemble.images.open import Source, decode_shard
from ensemble.images.shard import plan_shards
from ensemble.inference.resized import without_strips
from ensemble.inference.transforms import to_input
from ensemble.members.member import Member
from ensemble.report.build.examples import png
from ensemble.report.documents.member import Filters, Neighbour
from ensemble.training.features import feature_function

_SHARD_IMAGES, _NEAREST = 64, 6
_COLUMNS, _SMALLEST_FILTER = 16, 32


def draw_filters(network: nn.Module) -> Filters | None:
    """Draw the filters of the first convolution of three channels; None where there is none.

    Source: Krizhevsky et al. 2012, Figure 3.
    """
    for layer, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and module.weight.shape[1] == 3:
            weights = module.weight.detach().float().permute(0, 2, 3, 1).cpu().numpy()
            count, height, width, _ = weights.shape
            picture = _grid(weights)
            return Filters(layer=layer, count=count, height=height, width=width, png_base64=picture)
    return None


def _grid(filters: Float[np.ndarray, "filter height width 3"]) -> str:
    """Draw filters side by side, enlarged by whole pixels, with transparent gaps."""
    low = filters.min(axis=(1, 2, 3), keepdims=True)
    high = filters.max(axis=(1, 2, 3), keepdims=True)
    shades = np.rint(255 * (filters - low) / np.maximum(high - low, 1e-12)).astype(np.uint8)
    count, height, width, _ = shades.shape
    factor = max(1, -(-_SMALLEST_FILTER // max(height, width)))
    large = shades.repeat(factor, axis=1).repeat(factor, axis=2)
    step_y, step_x, columns = height * factor + 4, width * factor + 4, min(_COLUMNS, count)
    canvas = np.zeros((-(-count // columns) * step_y, columns * step_x, 4), np.uint8)
    for number, one in enumerate(large):
        top, left = number // columns * step_y, number % columns * step_x
        canvas[top : top + step_y - 4, left : left + step_x - 4, :3] = one
        canvas[top : top + step_y - 4, left : left + step_x - 4, 3] = 255
    buffer = io.BytesIO()
    Image.fromarray(canvas).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def find_neighbours(
    source: Source,
    member: Member,
    network: nn.Module,
    images: ImageIndex,
    candidates: ImageIndex,
) -> list[tuple[Neighbour, ...]]:
    """Find the training images whose features are nearest to each test image's, at unit length.

    Args:
        source: Where the images come from.
        member: The member, whose preprocessing images get.
        network: Its network, whose head is a linear layer over a row of features.
        images: The test images.
        candidates: The training images among which the nearest ones are looked for.

    Returns:
        For each test image the nearest ones, the nearest first; none for one that cannot be decoded.

    Raises:
        CheckpointError: The head is no such layer.

    Departure: the paper compares rows as they are. There, a few images with short rows are near to all others.
    """
    ids, theirs = _features(source, member, network, candidates)
    own_ids, own = _features(source, member, network, images)
    label_by_id = dict(zip(candidates.image_ids.tolist(), candidates.labels.tolist(), strict=True))
    pictures: dict[str, str] = {}

    def neighbour(row: int, distance: float) -> Neighbour:
        image_id = ids[row]
        if image_id not in pictures:
            pictures[image_id] = png(source.decode(image_id))
        label = candidates.classes[label_by_id[image_id]]
        return Neighbour(
            image_id=image_id, label=label, distance=distance, png_base64=pictures[image_id]
        )

    apart = torch.cdist(functional.normalize(own), functional.normalize(theirs))
    distances, rows = apart.topk(min(_NEAREST, len(ids)), largest=False)
    by_id = {
        image_id: tuple(neighbour(row, value) for row, value in zip(nearest, values, strict=True))
        for image_id, nearest, values in zip(
            own_ids, rows.tolist(), distances.tolist(), strict=True
        )
    }
    return [by_id.get(image_id, ()) for image_id in images.image_ids.tolist()]


def _features(
    source: Source, member: Member, network: nn.Module, images: ImageIndex
) -> tuple[list[str], Float[torch.Tensor, "image feature"]]:
    """Compute what the head is given for each image that can be decoded, at the preprocessed image itself."""
    compute, to = feature_function(network, len(member.classes)), member.preprocessing
    ids, parts = list[str](), list[torch.Tensor]()
    for spec in plan_shards(images.image_ids.tolist(), _SHARD_IMAGES):
        shard = without_strips(decode_shard(source, spec), to)
        if len(shard):
            ids += shard.image_ids.tolist()
            parts.append(compute(to_input([shard], to.size, to.resize, to.interpolation), to))
    return ids, torch.cat(parts)
