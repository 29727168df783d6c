"""Predictions: every block that the table lacks, and the images that some member has none of."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from cluster.pool.dispatcher import QuarantinedBlock
from cluster.scheduling.placement import Plan
from ensemble.checkpoints.header import read_bad_images
from ensemble.errors import DataError, PartialError
from ensemble.evaluation.broken import SoundMembers, count_broken, leave_out_broken
from ensemble.evaluation.calibration import calibrate_members
from ensemble.evaluation.reading import StreamingOutranking, build_outranking
from ensemble.images.shard import BadImage, ShardSpec, plan_shards
from ensemble.images.split import Splits
from ensemble.members.member import Member
from ensemble.outranking.table import OutrankingTable
from ensemble.storage.local_store import LocalStore
from ensemble.table.block import LogitBlock
from ensemble.table.shard_writer import Receipt
from jobs.plan.text import plan_line
from jobs.run.job import Job
from jobs.run.writers import count_pause_s, workers_write
from jobs.stored_runs.columns import write_columns

# How many blocks or images a message names before it only counts them.
_NUM_NAMED = 5


@dataclass(frozen=True)
class Predictions:
    """What all members predicted, in the run's table.

    Attributes:
        members: The pool, each at its temperature.
        splits: The images that every member has a prediction of.
        excluded: Images that were left out for every member alike, and why.
        outranking: The search split, as searches see it.
        left_out: Names of the members that were left out because their predictions are no numbers.
        notes: Which members were left out, and why, in sentences.
    """

    members: tuple[Member, ...]
    splits: Splits
    excluded: tuple[BadImage, ...]
    outranking: OutrankingTable
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def predict(job: Job, members: tuple[Member, ...]) -> Predictions:
    """Fill the table, leave out what some member could not predict, and build the outranking table.

    Raises:
        DataError: More images cannot be decoded than the config accepts.
        PartialError: Blocks are missing, and the options do not allow that.
    """
    search, shard_images = job.splits.search, job.config.cluster.shard_images
    for files in filter(None, (LocalStore(job.folder.path), job.store)):
        write_columns(files, {member.name: member.column for member in members})
    combines = job.config.search.combines
    if not job.config.temperature:
        streaming = StreamingOutranking(job.table, members, search, shard_images, combines)
        fill_table(job, "predict", members, job.splits, streaming)
        splits, excluded = drop_bad_images(job, members)
        with job.progress.stage("outranking table"):
            outranking = streaming.finish(splits.search)
        sound = _leave_out_broken(job, members, outranking.num_broken, splits)
        if sound.left_out:
            outranking = outranking.select(sound.kept)
        members = tuple(members[index] for index in sound.kept)
        return Predictions(members, splits, excluded, outranking, sound.left_out, sound.notes)
    fill_table(job, "predict", members, job.splits)
    splits, excluded = drop_bad_images(job, members)
    with job.progress.stage("temperatures"):
        num_broken = count_broken(job.table, members, splits.search)
        sound = _leave_out_broken(job, members, num_broken, splits)
        members = tuple(members[index] for index in sound.kept)
        members = calibrate_members(job.table, members, splits.search, job.config.seed)
    with job.progress.stage("outranking table"):
        outranking = build_outranking(job.table, members, splits.search, combines=combines)
    return Predictions(members, splits, excluded, outranking, sound.left_out, sound.notes)


def _leave_out_broken(
    job: Job, members: Sequence[Member], num_broken: Int[np.ndarray, " member"], splits: Splits
) -> SoundMembers:
    names = [member.name for member in members]
    sound = leave_out_broken(names, num_broken, len(splits.search))
    for note in sound.notes:
        job.progress.say(f"warning: {note}")
    return sound


def fill_table(
    job: Job,
    stage_name: str,
    members: Sequence[Member],
    splits: Splits,
    streaming: StreamingOutranking | None = None,
) -> None:
    """Compute the blocks that the table lacks on the search and test splits, and commit each one.

    Args:
        job: The run.
        stage_name: Name of the stage that a person watches.
        members: Whose blocks are computed.
        splits: The images.
        streaming: An outranking table that reads blocks as they arrive.
    """
    work = _missing_blocks(job, members, splits)
    blocks_left = {m.name: sum(m in lacking for _, lacking in work) for m in members}
    with job.progress.stage(stage_name, sum(blocks_left.values()), "blocks") as stage:

        def show_plan(plan: Plan) -> None:
            job.progress.say(plan_line(plan))

        for blocks in _durable_blocks(job, work, show_plan):
            if streaming:
                streaming.read_landed()
            for member, block in blocks:
                blocks_left[member.name] -= 1
                job.progress.member(
                    member.name,
                    "predicting",
                    f"{blocks_left[member.name]} blocks to go",
                    block.forward_passes,
                    block.seconds,
                )
                job.counts.forward_passes += block.forward_passes
                job.counts.predict_seconds += block.seconds
                stage.advance(images=block.forward_passes)
                if not blocks_left[member.name]:
                    job.progress.member(member.name, "predicted")
    for lost in job.pool.quarantined:
        job.progress.member(lost.member.name, "predicted in part")


def _durable_blocks(
    job: Job,
    work: Sequence[tuple[ShardSpec, Sequence[Member]]],
    on_plan: Callable[[Plan], None],
) -> Iterator[Sequence[tuple[Member, LogitBlock | Receipt]]]:
    """Yield what blocks cost once they are in the table, whoever has written them."""
    if not work or not workers_write(job.table.root, job.pool.is_on_this_machine):
        for member, block in job.pool.predict(work, on_plan):
            job.table.commit(member, block)
            yield [(member, block)]
        return
    writer, pause_s = job.table.writer(job.config.storage), count_pause_s(job.table)
    for receipts in job.pool.predict_and_write(work, writer, on_plan, pause_s):
        job.table.count(receipts)
        yield receipts


def _missing_blocks(
    job: Job, members: Sequence[Member], splits: Splits
) -> list[tuple[ShardSpec, list[Member]]]:
    """Each shard with the members whose block of it neither this run nor one beside it has."""
    job.other_runs.lend(job.table, members, splits.predicted_ids, job.progress.say)
    work = []
    for spec in plan_shards(splits.predicted_ids, job.config.cluster.shard_images):
        lacking = [m for m in members if job.table.missing(m.column, spec.image_ids)]
        if lacking:
            work.append((spec, lacking))
    return work


def drop_bad_images(job: Job, members: Sequence[Member]) -> tuple[Splits, tuple[BadImage, ...]]:
    """Leave out, for every member alike, what could not be decoded or, if allowed, predicted.

    Returns:
        The images that are left, and those left out.
    """
    unpredicted = list_unpredicted(job.pool.quarantined, job.options.allow_partial)
    damaged = {bad.image_id: bad for bad in job.splits.bad}
    damaged |= {bad.image_id: bad for bad in job.table.bad_images(m.column for m in members)}
    for member in members:
        damaged |= {bad.image_id: bad for bad in read_bad_images(member.checkpoint)}
    named = "; ".join(f"{i}: {damaged[i].reason}" for i in sorted(damaged)[:_NUM_NAMED])
    named += " …" if len(damaged) > _NUM_NAMED else ""
    if len(damaged) > job.config.images.max_bad_images:
        raise DataError(
            f"{len(damaged)} images cannot be decoded, and images.max_bad_images is "
            f"{job.config.images.max_bad_images}. {named}. Mend or remove them, or raise "
            "images.max_bad_images to leave them out."
        )
    if damaged:
        job.progress.say(f"{len(damaged)} images cannot be decoded and are left out: {named}")
    excluded = damaged | {image.image_id: image for image in unpredicted}
    return job.splits.without(excluded), tuple(excluded[i] for i in sorted(excluded))


def list_unpredicted(
    blocks: Sequence[QuarantinedBlock], allow_partial: bool
) -> tuple[BadImage, ...]:
    """List the images that some member has no prediction of.

    Raises:
        PartialError: There are some, and that is not allowed.
    """
    if blocks and not allow_partial:
        named = "; ".join(_describe(block) for block in blocks[:_NUM_NAMED])
        more = f"; and {len(blocks) - _NUM_NAMED} more" if len(blocks) > _NUM_NAMED else ""
        raise PartialError(
            f"{len(blocks)} blocks are missing, because they killed their worker every time: "
            f"{named}{more}. Everything else is kept. Run again to try them once more, or add "
            "--allow-partial to go on without these images."
        )
    return tuple(
        BadImage(image_id, f"predicting its shard with {block.member.name} killed the worker")
        for block in blocks
        for image_id in block.shard.image_ids
    )


def _describe(block: QuarantinedBlock) -> str:
    ids = block.shard.image_ids
    images = f"{len(ids)} images from {ids[0]!r} to {ids[-1]!r}"
    return f"{block.member.name!r} on {images} ({block.reason})"
