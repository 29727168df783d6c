"""Filling the table: the blocks that it lacks, computed by the workers and counted as they come."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from cluster.pool.block_keeper import BlockKeeper
from cluster.pool.trainings import SpareWork
from cluster.scheduling.placement import Plan
from ensemble.evaluation.reading import StreamingOutranking
from ensemble.images.shard import ShardSpec, plan_shards
from ensemble.images.split import Splits
from ensemble.members.member import Member
from ensemble.table.block import LogitBlock
from ensemble.table.shard_writer import Receipt
from jobs.plan.text import plan_line
from jobs.run.job import Job
from jobs.run.writers import count_pause_s, workers_write

# Share of Ray's object store for blocks that wait for those of other members.
_KEPT_SHARE = 0.25

# Shards in order, each with the members that lack it.
Work = list[tuple[ShardSpec, list[Member]]]


def missing_blocks(job: Job, members: Sequence[Member], splits: Splits) -> Work:
    """List the shards of the search and test splits that neither this run nor one beside it has of a member.

    Blocks that killed their worker every time are not listed.
    """
    deadly = {(block.member.name, block.shard) for block in job.pool.quarantined}
    job.other_runs.lend(job.table, members, splits.predicted_ids, job.progress.say)
    work = []
    for spec in plan_shards(splits.predicted_ids, job.config.cluster.shard_images):
        lacking = [
            m
            for m in members
            if (m.network_name, spec) not in deadly and job.table.missing(m.column, spec.image_ids)
        ]
        if lacking:
            work.append((spec, lacking))
    return work


def compute_blocks(
    job: Job,
    stage_name: str,
    work: Work,
    streaming: StreamingOutranking | None = None,
    keeper: BlockKeeper | None = None,
) -> None:
    """Compute blocks, and commit each one.

    Args:
        job: The run.
        stage_name: Name of the stage that a person watches.
        work: What `missing_blocks` lists.
        streaming: An outranking table that reads blocks as they arrive.
        keeper: Gets references to the blocks' rows for it.
    """
    counter = _BlockCounter(job, work)
    with job.progress.stage(stage_name, counter.num_left, "blocks") as stage:

        def show_plan(plan: Plan) -> None:
            job.progress.say(plan_line(plan))

        for blocks in _durable_blocks(job, work, show_plan, keeper):
            if streaming:
                streaming.read_landed()
            for member, block in blocks:
                counter.add(member, block)
                stage.advance(images=block.forward_passes)
    for lost in job.pool.quarantined:
        job.progress.member(lost.member.name, "predicted in part")


class _BlockCounter:
    """Counts what blocks cost, and shows how many each member has to go."""

    def __init__(self, job: Job, work: Work) -> None:
        self._job = job
        self._left = Counter(member.name for _, lacking in work for member in lacking)

    @property
    def num_left(self) -> int:
        """Number of blocks to go."""
        return self._left.total()

    def add(self, member: Member, block: LogitBlock | Receipt) -> None:
        """Count a block that is in the table."""
        job = self._job
        self._left[member.name] -= 1
        left, passes = self._left[member.name], block.forward_passes
        job.progress.member(
            member.name, "predicting", f"{left} blocks to go", passes, block.seconds
        )
        job.counts.forward_passes += passes
        job.counts.predict_seconds += block.seconds
        if not left:
            job.progress.member(member.name, "predicted")


class SpareBlocks:
    """Blocks that workers predict while they have nothing to train, counted as they come.

    Args:
        job: The run.
        members: Whose blocks are computed.
    """

    def __init__(self, job: Job, members: Sequence[Member]) -> None:
        self._job = job
        self._work = missing_blocks(job, members, job.splits)
        self._counter = _BlockCounter(job, self._work)
        self._uncounted: list[tuple[Member, Receipt]] = []
        self._counted_at = time.monotonic()

    @property
    def work(self) -> SpareWork | None:
        """What the pool is given; None where nothing is lacking."""
        job = self._job
        if not self._work:
            return None
        is_theirs = workers_write(job.table.root, job.pool.is_on_this_machine)
        writer = job.table.writer(job.config.storage) if is_theirs else None
        return SpareWork(self._work, self._receive, writer)

    def finish(self) -> None:
        """Count what was not counted yet."""
        if self._uncounted:
            self._job.table.count(self._uncounted)
            for member, receipt in self._uncounted:
                self._counter.add(member, receipt)
            self._uncounted = []
        self._counted_at = time.monotonic()

    def _receive(self, blocks: Sequence[tuple[Member, LogitBlock | Receipt]]) -> None:
        for member, block in blocks:
            if isinstance(block, Receipt):
                self._uncounted.append((member, block))
            else:
                self._job.table.commit(member, block)
                self._counter.add(member, block)
        if time.monotonic() - self._counted_at >= count_pause_s(self._job.table):
            self.finish()


def _durable_blocks(
    job: Job,
    work: Sequence[tuple[ShardSpec, Sequence[Member]]],
    on_plan: Callable[[Plan], None],
    keeper: BlockKeeper | None = None,
) -> Iterator[Sequence[tuple[Member, LogitBlock | Receipt]]]:
    """Yield what blocks cost once they are in the table, whoever has written them."""
    if not work or not workers_write(job.table.root, job.pool.is_on_this_machine):
        for member, block in job.pool.predict(work, on_plan):
            job.table.commit(member, block)
            yield [(member, block)]
        return
    writer, pause_s = job.table.writer(job.config.storage), count_pause_s(job.table)
    for receipts in job.pool.predict_and_write(work, writer, on_plan, pause_s, keeper):
        job.table.count(receipts)
        yield receipts


def block_keeper(job: Job, members: Sequence[Member]) -> BlockKeeper | None:
    """Blocks that workers keep for the outranking table; None where they do not write the table themselves."""
    if not workers_write(job.table.root, job.pool.is_on_this_machine):
        return None
    writer = job.table.writer(job.config.storage)
    most_mb = job.config.cluster.object_store_mb * _KEPT_SHARE
    return BlockKeeper(members, writer, job.config.search.combines, most_mb)
