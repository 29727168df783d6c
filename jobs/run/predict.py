"""jobs / run / predict: say here what this file is responsible for."""

from collections.abc import Sequence

import numpy as np

from cluster.pool.dispatcher import QuarantinedBlock
from ensemble.checkpoints.header import read_bad_images
from ensemble.errors import DataError, PartialError
from ensemble.evaluation.calibration import calibrate_members
from ensemble.evaluation.reading import StreamingOutranking
from ensemble.images.index import ImageIndex
from ensemble.images.shard import BadImage, plan_shards
from ensemble.images.split import Splits
from ensemble.members.member import Member
from jobs.run.job import Job


def fill_table(
    job: Job,
    stage_name: str,
    members: Sequence[Member],
    outranking: StreamingOutranking | None = None,
) -> None:
    """Compute the blocks that the table lacks on the search and test splits, and commit each one.

    An outranking table that is given reads them as they arrive.
    """
    images, work = _predicted_images(job), []
    if job.others:
        job.others.lend(job.table, members, images, job.progress.say)
    for spec in plan_shards(images, job.config.cluster.shard_images):
        lacking = [m for m in members if job.table.missing(m.column, spec.image_ids)]
        if lacking:
            work.append((spec, lacking))
    total = sum(len(lacking) for _, lacking in work)
    todo = {m.name: sum(m in lacking for _, lacking in work) for m in members}
    with job.progress.stage(stage_name, total, "blocks") as stage:
        for member, block in job.pool.predict(work, job.say_plan):
            job.table.commit(member, block)
            if outranking:
                outranking.read_landed()
            todo[member.name] -= 1
            job.progress.member(
                member.name,
                "predicting",
                f"{todo[member.name]} blocks to go",
                block.forward_passes,
                block.seconds,
            )
            job.counts.forward_passes += block.forward_passes
            job.counts.predict_seconds += block.seconds
            stage.advance(images=block.forward_passes)
            if not todo[member.name]:
                job.progress.member(member.name, "predicted")
    for out in job.pool.quarantined:
        job.progress.member(out.member.name, "predicted in part")


def drop_bad_images(
    job: Job, members: Sequence[Member], allow_partial: bool = False
) -> tuple[BadImage, ...]:
    """Leave out, for every member alike, what could not be decoded.

    With `allow_partial` also what killed its worker every time.

    Raises:
        DataError: There is more of it than the config accepts.
        PartialError: Blocks are missing, and that is not allowed.
    """
    poison = left_out_images(job.pool.quarantined, allow_partial)
    found = {bad.image_id: bad for bad in job.table.bad_images(m.column for m in members)}
    for member in members:
        found |= {bad.image_id: bad for bad in read_bad_images(member.checkpoint)}
    bad = tuple(found[image_id] for image_id in sorted(found))
    if len(bad) > job.config.images.max_bad_images:
        shown = "; ".join(f"{image.image_id}: {image.reason}" for image in bad[:5])
        raise DataError(
            f"{len(bad)} images cannot be decoded, and images.max_bad_images is "
            f"{job.config.images.max_bad_images}. {shown}{' …' if len(bad) > 5 else ''}. Mend or "
            "remove them, or raise images.max_bad_images to leave them out."
        )
    without = found | {image.image_id: image for image in poison}
    job.splits = Splits(*(_without(part, without) for part in vars(job.splits).values()))
    return tuple(without[image_id] for image_id in sorted(without))


def _predicted_images(job: Job) -> list[str]:
    return [*job.splits.search.image_ids.tolist(), *job.splits.test.image_ids.tolist()]


def _without(part: ImageIndex, bad: dict[str, BadImage]) -> ImageIndex:
    return part.take(np.flatnonzero([str(i) not in bad for i in part.image_ids]))


_SHOWN = 5


def left_out_images(
    left_out: Sequence[QuarantinedBlock], allow_partial: bool
) -> tuple[BadImage, ...]:
    """The images that some member has no prediction of.

    Raises:
        PartialError: There are some, and that is not allowed.
    """
    if left_out and not allow_partial:
        shown = "; ".join(_describe(out) for out in left_out[:_SHOWN])
        more = f"; and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else ""
        raise PartialError(
            f"{len(left_out)} blocks are missing, because they killed their worker every time: "
            f"{shown}{more}. Everything else is kept. Run again to try them once more, or add "
            "--allow-partial to go on without these images."
        )
    return tuple(
        BadImage(image_id, f"predicting its shard with {out.member.name} killed the worker")
        for out in left_out
        for image_id in out.shard.image_ids
    )


def _describe(out: QuarantinedBlock) -> str:
    ids = out.shard.image_ids
    return f"{out.member.name!r} on {len(ids)} images from {ids[0]!r} to {ids[-1]!r} ({out.reason})"


def _predict(
    job: Job, members: tuple[Member, ...], allow_partial: bool
) -> tuple[tuple[Member, ...], tuple[BadImage, ...], StreamingOutranking]:
    """Fill the table; give the members at their temperatures, and what is left out."""
    table, shard_images = job.table, job.config.cluster.shard_images
    if not job.config.temperature:
        outranking = StreamingOutranking(table, members, job.splits.search, shard_images)
        fill_table(job, "predict", members, outranking)
        return members, drop_bad_images(job, members, allow_partial), outranking
    fill_table(job, "predict", members)
    bad = drop_bad_images(job, members, allow_partial)
    search = job.splits.search
    with job.progress.stage("temperatures"):
        members = calibrate_members(table, members, search, job.config.seed)
    return members, bad, StreamingOutranking(table, members, search, shard_images)
