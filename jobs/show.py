"""`ensemble show RUN MEMBER`: first-layer filters, answers, and the nearest training images, as a page.

Source: Krizhevsky et al. 2012, Figures 3 and 4.
"""

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import nn
from torch.nn import functional

from ensemble.checkpoints.load import load_network
from ensemble.errors import CheckpointError, ConfigError, UnknownNameError
from ensemble.files import write_atomic
from ensemble.images.index import ImageIndex
from ensemble.images.open import Source, decode_shard, open_source
from ensemble.images.shard import plan_shards
from ensemble.images.split import stratified_sample
from ensemble.inference.resized import without_strips
from ensemble.inference.transforms import to_input
from ensemble.members.member import Member
from ensemble.members.source_settings import ImportedSource
from ensemble.report.build.examples import png
from ensemble.report.documents.member import Filters, MemberReport, Neighbour, ShownImage
from ensemble.report.pages.member import render
from ensemble.training.features import feature_function
from ensemble.views.policies import describe_views
from jobs.stored_runs.finished import FinishedRun, open_finished_run
from jobs.stored_runs.members import load_members

_SHARD_IMAGES, _NEAREST, _TOP, _SEED = 64, 6, 5, 0
_COLUMNS, _SMALLEST_FILTER = 16, 32
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]+")


def show(
    place: str,
    name: str,
    words: Sequence[str],
    num_images: int,
    num_searched: int,
    out: Path | None,
) -> Path:
    """Make the page of a member of a finished run, and write it.

    Args:
        place: The folder of the run, or s3://bucket/prefix/RUN.
        name: Name of the member.
        words: How S3 is reached, of the form storage.key=value.
        num_images: Number of test images that are shown.
        num_searched: Number of training images that the nearest ones are looked for among, at most.
        out: The page; named after run and member, in the working folder, if None.

    Raises:
        ConfigError: The run is not finished, has no such member, or the member's weights are not here.
    """
    run = open_finished_run(place, words)
    names = [column.member for column in run.columns]
    if name not in names:
        raise UnknownNameError.of("member", name, names)
    if any(isinstance(one.source, ImportedSource) for one in run.config.members):
        raise ConfigError(
            f"the predictions of {run.name!r} were imported, so there is no network to look at. Give a run that "
            "`ensemble run` made."
        )
    (member,) = load_members(run, [name], {})
    report = describe(run, member, num_images, num_searched)
    path = out or Path(f"show-{run.name}-{_NOT_IN_NAMES.sub('-', name)}.html")
    write_atomic(path, render(report))
    return path


def describe(run: FinishedRun, member: Member, num_images: int, num_searched: int) -> MemberReport:
    """Collect what the page of a member shows."""
    network, left_out = load_network(member), list[str]()
    filters = draw_filters(network)
    if filters is None:
        left_out.append("First layer: the network has no convolution of three channels.")
    images = stratified_sample(run.splits.test, num_images, _SEED)
    searched = stratified_sample(run.splits.train, num_searched, _SEED)
    source = open_source(run.config.image_source)
    near: list[tuple[Neighbour, ...]] = [()] * len(images)
    try:
        near = _neighbours(source, member, network, images, searched) if len(searched) else near
    except CheckpointError:
        searched = searched.take(np.arange(0))
        left_out.append(
            "Nearest training images: the head of the network is no linear layer over a row of features."
        )
    (column,) = (column for column in run.columns if column.member == member.name)
    rows = np.exp(run.table.read(column.key, images.image_ids).astype(np.float64))
    classes = images.classes
    shown = []
    for row, image_id in enumerate(images.image_ids.tolist()):
        best = np.argsort(-rows[row], kind="stable")[:_TOP].tolist()
        shown.append(
            ShownImage(
                image_id=image_id,
                label=classes[images.labels[row]],
                png_base64=png(source.decode(image_id)),
                answers=tuple((classes[k], min(1.0, float(rows[row, k]))) for k in best),
                neighbours=near[row],
            )
        )
    return MemberReport(
        run=run.name,
        name=member.name,
        architecture=member.architecture,
        parameters=member.parameters,
        views=describe_views(member.views, member.preprocessing.size),
        filters=filters,
        images=tuple(shown),
        searched_images=len(searched),
        left_out=tuple(left_out),
    )


def draw_filters(network: nn.Module) -> Filters | None:
    """Draw the filters of the first convolution of three channels; None where there is none."""
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


def _neighbours(
    source: Source,
    member: Member,
    network: nn.Module,
    images: ImageIndex,
    searched: ImageIndex,
) -> list[tuple[Neighbour, ...]]:
    """Find the training images whose features are nearest to each test image's, at unit length.

    Departure: the paper compares rows as they are. There, a few images with short rows are near to all others.
    """
    ids, theirs = _features(source, member, network, searched)
    own_ids, own = _features(source, member, network, images)
    label_by_id = dict(zip(searched.image_ids.tolist(), searched.labels.tolist(), strict=True))
    pictures: dict[str, str] = {}

    def neighbour(row: int, distance: float) -> Neighbour:
        image_id = ids[row]
        if image_id not in pictures:
            pictures[image_id] = png(source.decode(image_id))
        label = searched.classes[label_by_id[image_id]]
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
