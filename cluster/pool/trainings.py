"""Trainings on the workers: small ones share GPUs by measured memory, and who has nothing to train predicts."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.pool.dispatcher import Dispatcher
from cluster.scheduling.costs import Costs
from cluster.scheduling.placement import Device, HostPlan, whole_devices
from cluster.scheduling.predict_calls import predict_calls
from cluster.scheduling.training import training_hosts, with_members
from cluster.scheduling.training_costs import TrainingCosts
from cluster.scheduling.work_queue import Call
from ensemble.images.shard import ShardSpec
from ensemble.members.member import Member
from ensemble.table.block import LogitBlock
from ensemble.table.shard_writer import Receipt, ShardWriter
from ensemble.training.task import TrainTask

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SpareWork:
    """Predictions that workers make while they have nothing to train; nothing waits for them.

    Attributes:
        work: Shards in order, each with the members that lack it.
        on_blocks: Receives what is done: receipts where there is a writer, and else the blocks.
        writer: Writes to a place that every worker reaches.
    """

    work: Iterable[tuple[ShardSpec, Sequence[Member]]]
    on_blocks: Callable[[Sequence[tuple[Member, LogitBlock | Receipt]]], None]
    writer: ShardWriter | None = None


class Trainings:
    """Trains on the workers of a dispatcher.

    Args:
        devices: GPUs or CPU processes.
        dispatcher: Does the calls.
        costs: What members cost that predict in between.
        training_costs: The memory of trainings; what is measured is added.
    """

    def __init__(
        self,
        devices: Sequence[Device],
        dispatcher: Dispatcher,
        costs: Costs,
        training_costs: TrainingCosts,
    ) -> None:
        self._devices = tuple(devices)
        self._dispatcher = dispatcher
        self._costs, self._training_costs = costs, training_costs

    def train(
        self,
        tasks: Sequence[TrainTask],
        shards: Sequence[ShardSpec],
        on_start: Callable[[str], None],
        spare: SpareWork | None,
    ) -> Iterator[TrainTask]:
        """Train members side by side, as `Pool.train` says."""
        left, spare_calls = list(tasks), self._spare_calls(spare, len(tasks))
        while left:
            now, hosts = self._plan(left)
            if spare_calls:
                hosts = self._with_members(hosts, spare_calls)
            calls = [
                Call("train", task, () if task.reads_images else tuple(shards), order)
                for order, task in enumerate(now)
            ]
            self._dispatcher.host_group.place(hosts)
            for call, value in self._dispatcher.run([*calls, *spare_calls], on_start):
                if call.is_spare:
                    assert spare is not None
                    spare_calls.remove(call)
                    blocks, batch_images = value
                    self._costs.learn_batch(call, batch_images)
                    spare.on_blocks(list(zip(call.members, blocks, strict=True)))
                elif self._is_done(call, value):
                    assert isinstance(call.about, TrainTask)
                    left = [task for task in left if task is not call.about]
                    yield call.about

    def _plan(self, left: Sequence[TrainTask]) -> tuple[Sequence[TrainTask], tuple[HostPlan, ...]]:
        """Choose what is trained now, and the workers that do it: on whole GPUs until all memory is known."""
        kinds = sorted({device.kind for device in self._devices if device.is_gpu})
        if not kinds or len(left) <= len(self._devices):
            return left, whole_devices(self._devices)
        memory_mb = self._training_costs.memory_mb(left, kinds)
        if memory_mb is None:
            count = len(self._devices)
            now = self._training_costs.first_to_measure(left, kinds, count)
            return now, whole_devices(self._devices)
        devices = self._training_costs.with_memory(self._devices, left)
        hosts = training_hosts(devices, memory_mb, len(left))
        if len(hosts) > len(devices):
            log.info("%d trainings at a time share %d GPUs", len(hosts), len(devices))
        return left, hosts

    def _is_done(self, call: Call, value: Any) -> bool:
        """Keep what a training needed; tell whether it ended, and was not short of memory in a share of a GPU."""
        path, cost = value
        assert isinstance(call.about, TrainTask)
        if cost is not None:
            self._training_costs.keep(call.about, call.kind, cost)
        if path is None:
            log.warning("%s: out of memory in a share of a GPU; again with a whole one", call)
        return path is not None

    def _spare_calls(self, spare: SpareWork | None, first_order: int) -> list[Call]:
        """Make the calls of members whose cost is known; the others are measured when all is trained."""
        if spare is None:
            return []
        kinds = {device.kind for device in self._devices}
        calls = predict_calls(spare.work, spare.writer, first_order)
        known = {
            network.column: any(self._costs.of(network, kind) for kind in kinds)
            for network in {call.member for call in calls}
        }
        calls = [call for call in calls if known[call.member.column]]
        for call in calls:
            call.is_spare = True
            call.batch_images = self._costs.batch_images(call.member, kinds)
        return calls

    def _with_members(
        self, hosts: tuple[HostPlan, ...], calls: Sequence[Call]
    ) -> tuple[HostPlan, ...]:
        works = self._costs.works(calls, {device.kind for device in self._devices})
        devices = self._costs.with_memory(self._devices, {call.member for call in calls})
        return with_members(hosts, works, devices)
