"""`ensemble show RUN MEMBER`: first-layer filters, answers, and the nearest training images, as a page.

Source: Krizhevsky et al. 2012, Figures 3 and 4.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ensemble.checkpoints.load import load_network
from ensemble.errors import CheckpointError, ConfigError, UnknownNameError
from ensemble.files import write_atomic
from ensemble.images.open import open_source
from ensemble.images.split import stratified_sample
from ensemble.members.member import Member
from ensemble.members.source_settings import ImportedSource
from ensemble.report.build.examples import png
from ensemble.report.build.member import draw_filters, find_neighbours
from ensemble.report.documents.member import MemberReport, Neighbour, ShownImage
from ensemble.report.pages.member import render
from ensemble.views.policies import describe_views
from jobs.stored_runs.finished import FinishedRun, open_finished_run
from jobs.stored_runs.members import load_members

_TOP, _SEED = 5, 0
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]+")


def show(
    place: str,
    name: str,
    words: Sequence[str],
    num_images: int,
    num_candidates: int,
    out: Path | None,
) -> Path:
    """Make the page of a member of a finished run, and write it.

    Args:
        place: The folder of the run, or s3://bucket/prefix/RUN.
        name: Name of the member.
        words: How S3 is reached, of the form storage.key=value.
        num_images: Number of test images that are shown.
        num_candidates: Number of training images that the nearest ones are looked for among, at most.
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
    report = describe(run, member, num_images, num_candidates)
    path = out or Path(f"show-{run.name}-{_NOT_IN_NAMES.sub('-', name)}.html")
    write_atomic(path, render(report))
    return path


def describe(
    run: FinishedRun, member: Member, num_images: int, num_candidates: int
) -> MemberReport:
    """Collect what the page of a member shows."""
    network, left_out = load_network(member), list[str]()
    filters = draw_filters(network)
    if filters is None:
        left_out.append("First layer: the network has no convolution of three channels.")
    images = stratified_sample(run.splits.test, num_images, _SEED)
    candidates = stratified_sample(run.splits.train, num_candidates, _SEED)
    source = open_source(run.config.image_source)
    near: list[tuple[Neighbour, ...]] = [()] * len(images)
    try:
        near = (
            find_neighbours(source, member, network, images, candidates)
            if len(candidates)
            else near
        )
    except CheckpointError:
        candidates = candidates.take(np.arange(0))
        left_out.append(
            "Nearest training images: the head of the network is no linear layer over a row of features."
        )
    (column,) = (column for column in run.columns if column.member == member.name)
    rows = np.exp(run.table.read(column.key, images.image_ids).astype(np.float64))
    classes = images.classes
    tiles = []
    for row, image_id in enumerate(images.image_ids.tolist()):
        best = np.argsort(-rows[row], kind="stable")[:_TOP].tolist()
        tiles.append(
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
        images=tuple(tiles),
        searched_images=len(candidates),
        left_out=tuple(left_out),
    )
