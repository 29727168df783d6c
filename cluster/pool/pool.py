"""The pool: what a run sees of Ray. It trains members, and predicts shards with them.

It measures what members cost, plans workers from the costs, and leaves calls to the dispatcher. It knows
neither the table nor the search.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray

from cluster.address import is_named, ray_address
from cluster.devices import list_devices
from cluster.pool.dispatcher import Dispatcher, QuarantinedBlock
from cluster.pool.host import Host
from cluster.pool.host_group import Location
from cluster.scheduling.costs import Costs
from cluster.scheduling.packing import make_plan
from cluster.scheduling.placement import Plan, whole_devices
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

log = logging.getLogger(__name__)

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
    ) -> Iterator[TrainTask]:
        """Train members side by side, and yield each task when its checkpoint is there.

        Args:
            tasks: Trainings, the longest first, so that no worker ends long after the others.
            shards: Shards that together hold the images of every task that does not read its own.
            on_start: Receives the name of each task that a worker takes.

        Raises:
            MemberFailedError: A training failed, and its cause allows no further attempt.
        """
        if not tasks:
            return
        self._dispatcher.host_group.place(whole_devices(self.devices))
        calls = [
            Call("train", task, () if task.reads_images else tuple(shards), order)
            for order, task in enumerate(tasks)
        ]
        for call, _ in self._dispatcher.run(calls, on_start):
            assert isinstance(call.about, TrainTask)
            yield call.about

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
    ) -> Iterator[list[tuple[Member, Receipt]]]:
        """Predict as `predict` does, but have the workers write the blocks: no row comes here.

        What is done while the caller counts one group is the next group.

        Args:
            work: Shards in order, each with the members that lack it.
            writer: Writes to a place that every worker reaches.
            on_plan: Receives the plan before it is carried out.
            pause_s: Seconds from one group to the next, unless a group is full.

        Raises:
            MemberFailedError: A call failed, and its cause neither allows another attempt nor lets
                its block be quarantined.
            ClusterError: A member fits on no device.
            TableError: A worker cannot write to the place.
        """

        def run(calls: Sequence[Call]) -> Groups:
            return self._dispatcher.run_in_groups(calls, pause_s)

        yield from self._blocks(work, on_plan, run, writer)

    def _blocks(
        self,
        work: Iterable[tuple[ShardSpec, Sequence[Member]]],
        on_plan: Callable[[Plan], None],
        run: Callable[[Sequence[Call]], Groups],
        writer: ShardWriter | None = None,
    ) -> Iterator[list[tuple[Member, Any]]]:
        """Yield blocks in the groups in which `run` gives them; where there is a writer, its receipts."""
        pairs = [(member, spec) for spec, members in work for member in members]
        calls = [
            Call("predict", member, (spec,), order, writer=writer)
            for order, (member, spec) in enumerate(pairs)
        ]
        while firsts := self._first_of_unmeasured(calls):
            self._dispatcher.host_group.place(whole_devices(self.devices))
            measures = [
                Call("measure", call.about, call.shards, call.order, writer=writer)
                for call in firsts
            ]
            for group in run(measures):
                for call, (_, cost) in group:
                    self._costs.keep(call.member, call.kind, cost)
                    if cost.batch_images:
                        _log_halved(call.member, cost.batch_images)
                yield [(call.member, block) for call, (block, _) in group]
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
            of_wave = [call for call in calls if call.member.name in names]
            for call in of_wave:
                call.batch_images = self._costs.batch_images(call.member, kinds)
            for group in run(of_wave):
                for call, (_, batch_images) in group:
                    if batch_images and self._costs.halved(call.member, call.kind, batch_images):
                        _log_halved(call.member, batch_images)
                yield [(call.member, block) for call, (block, _) in group]

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


def _log_halved(member: Member, batch_images: int) -> None:
    log.warning(
        "predict of %r: out of GPU memory; %d images a batch from now on", member.name, batch_images
    )


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
