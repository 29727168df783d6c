"""The pool: trains and predicts on the hosts of a plan, which it makes from what members cost."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import ray

from cluster.devices import is_named, list_devices, ray_address
from cluster.pool.dispatcher import Dispatcher, QuarantinedBlock
from cluster.pool.host import Host
from cluster.pool.host_group import Location
from cluster.scheduling.costs import Costs
from cluster.scheduling.packing import plan
from cluster.scheduling.placement import Plan, whole_devices
from cluster.scheduling.work_queue import Call
from cluster.session import session
from cluster.settings import ClusterConfig
from ensemble.images.settings import SourceConfig
from ensemble.images.shard import ShardSpec
from ensemble.inference.costs import CostCache
from ensemble.members.member import Member
from ensemble.table.block import LogitBlock
from ensemble.training.task import TrainTask

log = logging.getLogger(__name__)


class Pool:
    """Trains and predicts on host actors. Use `open_pool`.

    Args:
        config: Where and how wide.
        source: Where images come from.
        cache: Where measured costs are kept.
        host: What the actors are; tests pass a host of their own.
    """

    def __init__(
        self,
        config: ClusterConfig,
        source: SourceConfig,
        cache: CostCache,
        host: type[Host] = Host,
    ) -> None:
        is_cluster = is_named(ray_address())
        self.devices = list_devices(config, is_cluster, ray.nodes())
        self._config = config
        self._costs = Costs(config, cache)
        self._dispatcher = Dispatcher(config, source, self.devices, is_cluster, host)

    @property
    def num_hosts(self) -> int:
        """Host actors."""
        return len(self._dispatcher.host_group.handles)

    @property
    def decoded_images(self) -> int:
        """Images decoded so far."""
        return self._dispatcher.shards.decoded_images

    @property
    def retries(self) -> int:
        """Calls made again so far."""
        return self._dispatcher.retries.total()

    @property
    def retries_by_name(self) -> dict[str, int]:
        """Calls made again so far, by member or training."""
        return dict(self._dispatcher.retries)

    @property
    def image_retries(self) -> int:
        """Requests for images that were made again so far."""
        return self._dispatcher.shards.retries

    @property
    def quarantined(self) -> tuple[QuarantinedBlock, ...]:
        """Blocks that killed their worker every time, and are missing."""
        return tuple(self._dispatcher.quarantined)

    def where(self) -> tuple[Location, ...]:
        """Where the hosts are that have started."""
        return self._dispatcher.host_group.where()

    def train(
        self,
        tasks: Sequence[TrainTask],
        shards: Sequence[ShardSpec],
        on_start: Callable[[str], None] = lambda name: None,
    ) -> Iterator[TrainTask]:
        """Train networks side by side, and tell each one when its checkpoint is there.

        Args:
            tasks: The longest first, so that no host ends long after the others.
            shards: Together they hold every task's images.
            on_start: Is told the name of each task that a host takes.
        """
        if not tasks:
            return
        self._dispatcher.host_group.place(whole_devices(self.devices))
        calls = [Call("train", task, tuple(shards), order) for order, task in enumerate(tasks)]
        for call, _ in self._dispatcher.run(calls, on_start):
            assert isinstance(call.about, TrainTask)
            yield call.about

    def predict(
        self,
        work: Iterable[tuple[ShardSpec, Sequence[Member]]],
        on_plan: Callable[[Plan], None] = lambda found: None,
    ) -> Iterator[tuple[Member, LogitBlock]]:
        """Predict shards with members; blocks come as they are done.

        What a member costs is measured on its first block, if it is not known.

        Args:
            work: Shards in order, each with the members that lack it.
            on_plan: Is told the plan before it is carried out.
        """
        pairs = [(member, spec) for spec, members in work for member in members]
        calls = [Call("predict", m, (spec,), order) for order, (m, spec) in enumerate(pairs)]
        while unknown := self._first_of_unknown(calls):
            self._dispatcher.host_group.place(whole_devices(self.devices))
            measures = [Call("measure", c.about, c.shards, c.order) for c in unknown]
            for call, (block, cost) in self._dispatcher.run(measures):
                self._costs.keep(call.member, call.kind, cost)
                if cost.batch_images:
                    _say_halved(call.member, cost.batch_images)
                yield call.member, block
            calls = self._without_quarantined([call for call in calls if call not in unknown])
        if calls:
            yield from self._predict(calls, on_plan)

    def _predict(
        self, calls: Sequence[Call], on_plan: Callable[[Plan], None]
    ) -> Iterator[tuple[Member, LogitBlock]]:
        kinds = {device.kind for device in self.devices}
        works = self._costs.works(calls, kinds)
        devices = self._costs.with_memory(self.devices, {call.member for call in calls})
        found = plan(works, devices, self._config.host_per)
        on_plan(found)
        for number, wave in enumerate(found.waves):
            self._dispatcher.host_group.place(found.hosts(number))
            names = {share.member for share in wave}
            of_wave = [call for call in calls if call.member.name in names]
            for call in of_wave:
                call.batch_images = self._costs.batch_images(call.member, kinds)
            for call, (block, batch_images) in self._dispatcher.run(of_wave):
                if batch_images and self._costs.halved(call.member, call.kind, batch_images):
                    _say_halved(call.member, batch_images)
                yield call.member, block

    def _first_of_unknown(self, calls: Sequence[Call]) -> list[Call]:
        """The first call of each member whose cost is not known on any kind of device here."""
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
        missing = {(out.member.column, out.shard) for out in self._dispatcher.quarantined}
        return [c for c in calls if (c.member.column, c.shards[0]) not in missing]

    def close(self) -> None:
        """Give back what the cluster lent, and stop asking for nodes."""
        self._dispatcher.host_group.close()


def _say_halved(member: Member, batch_images: int) -> None:
    log.warning(
        "predict of %r: out of GPU memory; %d images a batch from now on", member.name, batch_images
    )


@contextmanager
def open_pool(
    config: ClusterConfig, source: SourceConfig, cache: CostCache, host: type[Host] = Host
) -> Iterator[Pool]:
    """A pool on an embedded Ray, or on the cluster that RAY_ADDRESS names; ended in any case.

    Args:
        config: Where and how wide.
        source: Where images come from.
        cache: Where measured costs are kept.
        host: What the actors are; tests pass a host of their own.
    """
    with session(config):
        pool = Pool(config, source, cache, host)
        try:
            yield pool
        finally:
            pool.close()
