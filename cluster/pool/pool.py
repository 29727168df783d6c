"""The pool: what a run sees of Ray. It trains members, and predicts shards with them.

It measures what members cost, plans workers from the costs, and leaves calls to the dispatcher. It knows
neither the table nor the search.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import ray

from cluster.address import is_named, ray_address
from cluster.devices import list_devices
from cluster.pool.block_keeper import BlockKeeper
from cluster.pool.dispatcher import Dispatcher, QuarantinedBlock
from cluster.pool.host import Host
from cluster.pool.host_group import Location
from cluster.pool.trainings import SpareWork, Trainings
from cluster.scheduling.costs import Costs, log_halved
from cluster.scheduling.packing import make_plan
from cluster.scheduling.placement import Plan, whole_devices
from cluster.scheduling.predict_calls import predict_calls
from cluster.scheduling.training_costs import TrainingCosts
from cluster.scheduling.work_queue import Call
from cluster.session import session
from cluster.settings import ClusterConfig
from ensemble.images.settings import SourceConfig
from ensemble.images.shard import ShardSpec
from ensemble.inference.costs import CostCache
from ensemble.members.member import Member
from ensemble.table.block import LogitBlock
from ensemble.table.shard_writer import Receipt, ShardWriter
from ensemble.training.task import TrainTask

# Calls that are done, with their values, as a dispatcher gives them.
Groups = Iterator[list[tuple[Call, Any]]]


class Pool:
    """Trains and predicts on the workers of a plan. Use `open_pool`, which ends it in any case.

    Args:
        config: Settings of the Ray side.
        source: Where images come from.
        cache: Where measured costs are kept.
        host: Class of the worker actors; benchmarks and tests pass one of their own.

    Raises:
        ConfigError: The settings ask for the CPU and list GPUs.
        ClusterError: The settings ask for GPUs, and neither they nor the cluster have one.
    """

    def __init__(
        self,
        config: ClusterConfig,
        source: SourceConfig,
        cache: CostCache,
        host: type[Host] = Host,
    ) -> None:
        is_cluster = is_named(ray_address())
        self.is_on_this_machine = not is_cluster
        self.devices = list_devices(config, is_cluster, ray.nodes())
        self._config = config
        self._costs = Costs(config, cache)
        self._dispatcher = Dispatcher(config, source, self.devices, is_cluster, host)
        self._trainings = Trainings(
            self.devices, self._dispatcher, self._costs, TrainingCosts(cache.folder)
        )

    @property
    def num_hosts(self) -> int:
        """Number of workers."""
        return len(self._dispatcher.host_group.handles)

    @property
    def decoded_images(self) -> int:
        """Number of images decoded so far."""
        return self._dispatcher.shards.decoded_images

    @property
    def retries(self) -> int:
        """Number of calls made again so far."""
        return self._dispatcher.retries.total()

    @property
    def retries_by_name(self) -> dict[str, int]:
        """Number of calls made again so far, by the name of the member."""
        return dict(self._dispatcher.retries)

    @property
    def image_retries(self) -> int:
        """Number of requests to the image source that were made again so far."""
        return self._dispatcher.shards.retries

    @property
    def quarantined(self) -> tuple[QuarantinedBlock, ...]:
        """Blocks that killed their worker in every attempt, and are missing from the table."""
        return tuple(self._dispatcher.quarantined)

    def where(self) -> tuple[Location, ...]:
        """Tell where the workers are that have started."""
        return self._dispatcher.host_group.where()

    def train(
        self,
        tasks: Sequence[TrainTask],
        shards: Sequence[ShardSpec],
        on_start: Callable[[str], None] = lambda name: None,
        spare: SpareWork | None = None,
    ) -> Iterator[TrainTask]:
        """Train members side by side, and yield each task when its checkpoint is there.

        Several share a GPU once it is known what memory they need, and more of them wait than there are GPUs.

        Args:
            tasks: Trainings, the longest first, so that no worker ends long after the others.
            shards: Shards that together hold the images of every task that does not read its own.
            on_start: Receives the name of each task that a worker takes.
            spare: Predictions that workers make while they have nothing to train.

        Raises:
            MemberFailedError: A training or a prediction failed, and its cause allows no further attempt.
        """
        yield from self._trainings.train(tasks, shards, on_start, spare)

    def predict(
        self,
        work: Iterable[tuple[ShardSpec, Sequence[Member]]],
        on_plan: Callable[[Plan], None] = lambda plan: None,
    ) -> Iterator[tuple[Member, LogitBlock]]:
        """Predict shards with members, and yield each block with its member as soon as it is done.

        What a member costs is measured on its first block, if it is not known.

        Args:
            work: Shards in order, each with the members that lack it.
            on_plan: Receives the plan before it is carried out.

        Raises:
            MemberFailedError: A call failed, and its cause neither allows another attempt nor lets
                its block be quarantined.
            ClusterError: A member fits on no device.
        """

        def run(calls: Sequence[Call]) -> Groups:
            return ([done] for done in self._dispatcher.run(calls))

        for blocks in self._blocks(work, on_plan, run):
            yield from blocks

    def predict_and_write(
        self,
        work: Iterable[tuple[ShardSpec, Sequence[Member]]],
        writer: ShardWriter,
        on_plan: Callable[[Plan], None] = lambda plan: None,
        pause_s: float = 0.0,
        keeper: BlockKeeper | None = None,
    ) -> Iterator[list[tuple[Member, Receipt]]]:
        """Predict as `predict` does, but have the workers write the blocks: no row comes here.

        What is done while the caller counts one group is the next group.

        Args:
            work: Shards in order, each with the members that lack it.
            writer: Writes to a place that every worker reaches.
            on_plan: Receives the plan before it is carried out.
            pause_s: Seconds from one group to the next, unless a group is full.
            keeper: Gets references to the rows, which stay in the object store.

        Raises:
            MemberFailedError: A call failed, and its cause neither allows another attempt nor lets
                its block be quarantined.
            ClusterError: A member fits on no device.
            TableError: A worker cannot write to the place.
        """

        def run(calls: Sequence[Call]) -> Groups:
            for call in calls:
                call.is_kept = keeper is not None
            for group in self._dispatcher.run_in_groups(calls, pause_s):
                if keeper is not None:
                    for call, (receipts, _) in group:
                        keeper.keep(call.shards[0], call.members, receipts, call.kept)
                        call.kept = None
                yield group

        yield from self._blocks(work, on_plan, run, writer)

    def _blocks(
        self,
        work: Iterable[tuple[ShardSpec, Sequence[Member]]],
        on_plan: Callable[[Plan], None],
        run: Callable[[Sequence[Call]], Groups],
        writer: ShardWriter | None = None,
    ) -> Iterator[list[tuple[Member, Any]]]:
        """Yield blocks in the groups in which `run` gives them; where there is a writer, its receipts."""
        calls = predict_calls(work, writer)
        while firsts := self._first_of_unmeasured(calls):
            self._dispatcher.host_group.place(whole_devices(self.devices))
            measures = [replace(call, verb="measure", failures=Counter()) for call in firsts]
            for group in run(measures):
                for call, (_, cost) in group:
                    self._costs.keep(call.member, call.kind, cost)
                    if cost.batch_images:
                        log_halved(call.member, cost.batch_images)
                yield _pairs(group)
            calls = self._without_quarantined([call for call in calls if call not in firsts])
        if calls:
            yield from self._predict(calls, on_plan, run)

    def _predict(
        self,
        calls: Sequence[Call],
        on_plan: Callable[[Plan], None],
        run: Callable[[Sequence[Call]], Groups],
    ) -> Iterator[list[tuple[Member, Any]]]:
        kinds = {device.kind for device in self.devices}
        works = self._costs.works(calls, kinds)
        devices = self._costs.with_memory(self.devices, {call.member for call in calls})
        plan = make_plan(works, devices, self._config.host_per)
        on_plan(plan)
        for number, wave in enumerate(plan.waves):
            self._dispatcher.host_group.place(plan.hosts(number))
            names = {share.member for share in wave}
            of_wave = [call for call in calls if call.about.name in names]
            for call in of_wave:
                call.batch_images = self._costs.batch_images(call.member, kinds)
            for group in run(of_wave):
                for call, (_, batch_images) in group:
                    self._costs.learn_batch(call, batch_images)
                yield _pairs(group)

    def _first_of_unmeasured(self, calls: Sequence[Call]) -> list[Call]:
        """Return the first call of each member whose cost is not known on any kind of device here."""
        first: dict[str, Call] = {}
        for call in calls:
            first.setdefault(call.member.column, call)
        kinds = sorted({device.kind for device in self.devices})
        return [
            call
            for call in first.values()
            if not any(self._costs.of(call.member, kind) for kind in kinds)
        ]

    def _without_quarantined(self, calls: Sequence[Call]) -> list[Call]:
        quarantined = {(block.member.column, block.shard) for block in self.quarantined}
        return [c for c in calls if (c.member.column, c.shards[0]) not in quarantined]

    def close(self) -> None:
        """End the workers, give back their room, and withdraw the request to the autoscaler."""
        self._dispatcher.host_group.close()


def _pairs(group: Sequence[tuple[Call, Any]]) -> list[tuple[Member, Any]]:
    """Give each member that calls predicted with its own part of their values."""
    return [pair for call, (parts, _) in group for pair in zip(call.members, parts, strict=True)]


@contextmanager
def open_pool(
    config: ClusterConfig, source: SourceConfig, cache: CostCache, host: type[Host] = Host
) -> Iterator[Pool]:
    """Open a pool on an embedded Ray, or on the cluster that RAY_ADDRESS names; end it in any case.

    Args:
        config: Settings of the Ray side.
        source: Where images come from.
        cache: Where measured costs are kept.
        host: Class of the worker actors; benchmarks and tests pass one of their own.

    Raises:
        ConfigError: The settings ask for the CPU and list GPUs.
        ClusterError: Ray cannot be reached or started, or the settings ask for GPUs and there is none.
    """
    with session(config):
        pool = Pool(config, source, cache, host)
        try:
            yield pool
        finally:
            pool.close()
