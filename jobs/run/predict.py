"""Predictions: every block that the table lacks, and the images that some member has none of.

The shards of the search split come first for all members, so that the search and the fine-tuning begin
when these are there; those of the test split alone follow beside them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int

from cluster.pool.block_keeper import BlockKeeper
from cluster.pool.dispatcher import QuarantinedBlock
from ensemble.checkpoints.header import read_bad_images
from ensemble.errors import DataError, PartialError
from ensemble.evaluation.broken import SoundMembers, count_broken, leave_out_broken
from ensemble.evaluation.calibration import calibrate_members
from ensemble.evaluation.reading import StreamingOutranking, build_outranking
from ensemble.images.shard import BadImage, plan_shards
from ensemble.images.split import Splits
from ensemble.members.member import Member
from ensemble.outranking.table import OutrankingTable
from ensemble.storage.local_store import LocalStore
from jobs.run.filling import block_keeper, compute_blocks, missing_blocks
from jobs.run.job import Job
from jobs.stored_runs.columns import write_columns

# Pieces of the outranking table that are made at a time. They hold no CPU, and Ray starts a process for each.
_PIECES_HERE, _PIECES_ON_A_CLUSTER = 1, 4

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
        predicted: All members that the table has columns of, those that were left out too.
        left_out: Names of the members that were left out because their predictions are no numbers.
        notes: Which members were left out, and why, in sentences.
    """

    members: tuple[Member, ...]
    splits: Splits
    excluded: tuple[BadImage, ...]
    outranking: OutrankingTable
    predicted: tuple[Member, ...]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def predict(job: Job, members: tuple[Member, ...]) -> Predictions:
    """Fill the table with the search split, and build the outranking table.

    What some member could not predict is left out. The test split follows: see `fill_test_split`.

    Raises:
        DataError: More images cannot be decoded than the config accepts.
        PartialError: Blocks are missing, and the options do not allow that.
    """
    job.searcher.prepare()
    search, shard_images = job.splits.search, job.config.cluster.shard_images
    for files in filter(None, (LocalStore(job.folder.path), job.store)):
        write_columns(files, {member.name: member.column for member in members})
    combines = job.config.search.combines
    if not job.config.temperature:
        keeper = block_keeper(job, members)
        start_piece = keeper.start_piece if keeper else None
        streaming = StreamingOutranking(
            job.table,
            members,
            search,
            shard_images,
            combines,
            start_piece,
            _PIECES_HERE if job.pool.is_on_this_machine else _PIECES_ON_A_CLUSTER,
        )
        splits, excluded = _fill_search_split(job, members, streaming, keeper)
        with job.progress.stage("outranking table"):
            outranking = streaming.finish(splits.search)
        sound = _leave_out_broken(job, members, outranking.num_broken, splits)
        if sound.left_out:
            outranking = outranking.select(sound.kept)
        sound_members = tuple(members[index] for index in sound.kept)
        return Predictions(
            sound_members, splits, excluded, outranking, members, sound.left_out, sound.notes
        )
    splits, excluded = _fill_search_split(job, members)
    with job.progress.stage("temperatures"):
        num_broken = count_broken(job.table, members, splits.search)
        sound = _leave_out_broken(job, members, num_broken, splits)
        sound_members = tuple(members[index] for index in sound.kept)
        sound_members = calibrate_members(job.table, sound_members, splits.search, job.config.seed)
    with job.progress.stage("outranking table"):
        outranking = build_outranking(job.table, sound_members, splits.search, combines=combines)
    return Predictions(
        sound_members, splits, excluded, outranking, members, sound.left_out, sound.notes
    )


def _fill_search_split(
    job: Job,
    members: Sequence[Member],
    streaming: StreamingOutranking | None = None,
    keeper: BlockKeeper | None = None,
) -> tuple[Splits, tuple[BadImage, ...]]:
    """Compute every block with an image of the search split; give what `drop_bad_images` does."""
    work = missing_blocks(job, members, job.splits)
    searched = set(job.splits.search.image_ids.tolist())
    first = [(spec, lacking) for spec, lacking in work if not searched.isdisjoint(spec.image_ids)]
    if keeper is not None:
        shards = plan_shards(job.splits.predicted_ids, job.config.cluster.shard_images)
        keeper.learn(
            (spec for spec in shards if not searched.isdisjoint(spec.image_ids)),
            job.table.commits(),
        )
    compute_blocks(job, "predict", first, streaming, keeper)
    if job.pool.quarantined and not job.options.allow_partial:
        # The run will end here: what the next one needs is computed as well.
        compute_blocks(job, "predict the test split", missing_blocks(job, members, job.splits))
    return drop_bad_images(job, members)


def fill_test_split(
    job: Job, predictions: Predictions, others: Sequence[Member] = ()
) -> Predictions:
    """Compute the blocks of the test split that are still lacking, and leave out what could not be predicted.

    Args:
        job: The run.
        predictions: What there is of the search split.
        others: Networks whose blocks of both splits are computed too, with the same decoded shards.

    Raises:
        DataError: More images cannot be decoded than the config accepts.
        PartialError: Blocks are missing, and the options do not allow that.
    """
    members = predictions.predicted
    by_shard = dict(missing_blocks(job, members, job.splits))
    for spec, lacking in missing_blocks(job, others, predictions.splits) if others else ():
        by_shard[spec] = [*by_shard.get(spec, ()), *lacking]
    name = "predict with sub-classifiers" if others else "predict the test split"
    compute_blocks(job, name, list(by_shard.items()))
    splits, excluded = drop_bad_images(job, members, predictions.excluded)
    return replace(predictions, splits=splits, excluded=excluded)


def _leave_out_broken(
    job: Job, members: Sequence[Member], num_broken: Int[np.ndarray, " member"], splits: Splits
) -> SoundMembers:
    names = [member.name for member in members]
    sound = leave_out_broken(names, num_broken, len(splits.search))
    for note in sound.notes:
        job.progress.say(f"warning: {note}")
    return sound


def fill_table(job: Job, stage_name: str, members: Sequence[Member], splits: Splits) -> None:
    """Compute the blocks that the table lacks on the search and test splits, and commit each one.

    Args:
        job: The run.
        stage_name: Name of the stage that a person watches.
        members: Whose blocks are computed.
        splits: The images.
    """
    compute_blocks(job, stage_name, missing_blocks(job, members, splits))


def drop_bad_images(
    job: Job, members: Sequence[Member], known: Sequence[BadImage] = ()
) -> tuple[Splits, tuple[BadImage, ...]]:
    """Leave out, for every member alike, what could not be decoded or, if allowed, predicted.

    Args:
        job: The run.
        members: The members.
        known: Images that were left out, and told of, before.

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
    if not damaged.keys() <= {image.image_id for image in known}:
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
