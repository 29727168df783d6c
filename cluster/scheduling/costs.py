"""What members cost on each kind of device: stated in the config, measured by an earlier run, or unknown."""

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from cluster.scheduling.placement import Device, Work
from cluster.scheduling.work_queue import Call
from cluster.settings import ClusterConfig
from ensemble.inference.costs import CostCache, MemberCost, cost_key
from ensemble.members.member import PROGRAMS, Member
from ensemble.members.settings import Precision
from ensemble.views.settings import Views

log = logging.getLogger(__name__)


def log_halved(member: Member, batch_images: int) -> None:
    """Log that batches of a member are cut from now on."""
    log.warning(
        "predict of %r: out of GPU memory; %d images a batch from now on", member.name, batch_images
    )


class Costs:
    """Costs of members on each kind of device.

    Args:
        config: Its `figures` come before measured costs.
        cache: Where measured costs are kept.
    """

    def __init__(self, config: ClusterConfig, cache: CostCache) -> None:
        self._config, self._cache = config, cache
        self._costs: dict[str, MemberCost | None] = {}
        # Batches of members whose cost stands in the config, and is not to be kept with measured ones.
        self._fitting: dict[str, int] = {}

    def key(
        self,
        architecture: str,
        parameters: int | None,
        num_classes: int,
        size: int,
        views: Views,
        precision: Precision,
        kind: str,
    ) -> str:
        """Return the identity of a cost, which is known of members that are not trained yet too.

        Args:
            architecture: Name of the architecture, or the format of a program.
            parameters: Number of parameters. Only programs need it: all of one format have the same
                architecture.
            num_classes: Number of outputs.
            size: Side of the input, in pixels.
            views: Test-time views.
            precision: Precision of the forward passes.
            kind: Kind of device.
        """
        if architecture in PROGRAMS:
            architecture = f"{architecture}/{parameters}"
        settings: dict[str, object] = {
            "device": kind,
            "precision": precision,
            "channels_last": self._config.channels_last,
            "compile": self._config.compile,
        }
        return cost_key(architecture, num_classes, size, views, settings)

    def find(self, name: str, key: str) -> MemberCost | None:
        """Return the cost of a member: from the config, or else as it was measured."""
        if cost := self._config.figures.get(name):
            fitting = self._fitting.get(key, cost.batch_images)
            return cost.model_copy(update={"batch_images": fitting})
        if key not in self._costs:
            self._costs[key] = self._cache.find(key)
        return self._costs[key]

    def of(self, member: Member, kind: str) -> MemberCost | None:
        """Return the cost of a member whose weights are there."""
        return self.find(member.name, self._key_of(member, kind))

    def keep(self, member: Member, kind: str, cost: MemberCost) -> None:
        """Keep a measured cost, for this run and for later ones."""
        key = self._key_of(member, kind)
        self._costs[key] = cost
        self._cache.keep(key, cost)

    def batch_images(self, member: Member, kinds: Collection[str]) -> int | None:
        """Return the smallest batch that is known to fit on all kinds of device; none if none is known."""
        costs = [self.of(member, kind) for kind in kinds]
        return min((c.batch_images for c in costs if c and c.batch_images), default=None)

    def learn_batch(self, call: Call, batch_images: int | None) -> None:
        """Keep the largest batch that fitted where a larger one did not, and log it if it was unknown before."""
        if batch_images and self.halved(call.member, call.kind, batch_images):
            log_halved(call.member, batch_images)

    def halved(self, member: Member, kind: str, batch_images: int) -> bool:
        """Keep the batch that fits; return whether it was unknown before."""
        known = self.of(member, kind)
        if known is None or known.batch_images == batch_images:
            return False
        if member.name in self._config.figures:
            self._fitting[self._key_of(member, kind)] = batch_images
        else:
            self.keep(member, kind, known.model_copy(update={"batch_images": batch_images}))
        return True

    def works(self, calls: Iterable[Call], kinds: Collection[str]) -> list[Work]:
        """Return the work of each member in some calls, on each kind of device.

        A kind of device that a member was not measured on counts as fast as the one that it was measured on.
        """
        members, blocks, images = dict[str, Member](), Counter[str](), Counter[str]()
        for call in calls:
            if isinstance(call.about, Member):
                column = call.about.column
                members[column] = call.about
                blocks[column] += 1
                images[column] += sum(len(spec.image_ids) for spec in call.shards)
        return [
            self._work(member, images[column], blocks[column], kinds)
            for column, member in members.items()
        ]

    def with_memory(
        self, devices: Sequence[Device], members: Iterable[Member]
    ) -> tuple[Device, ...]:
        """Return the devices with their measured memory, where the config does not state it."""
        members = tuple(members)
        memory: dict[str, float] = {}
        for kind in sorted({device.kind for device in devices}):
            costs = [cost for m in members if (cost := self.of(m, kind))]
            memory[kind] = max((cost.device_memory_mb or 0.0 for cost in costs), default=0.0)
        return tuple(
            replace(device, memory_mb=memory[device.kind])
            if device.memory_mb == float("inf") and memory[device.kind]
            else device
            for device in devices
        )

    def _work(self, member: Member, images: int, blocks: int, kinds: Collection[str]) -> Work:
        costs = {kind: self.of(member, kind) for kind in sorted(kinds)}
        known = [cost for cost in costs.values() if cost]
        largest = max(known, key=lambda cost: cost.memory_mb)
        return Work(
            member.name,
            {kind: images / (cost or known[0]).images_per_s for kind, cost in costs.items()},
            largest.memory_mb,
            blocks,
            largest.batch_mb,
        )

    def _key_of(self, member: Member, kind: str) -> str:
        return self.key(
            member.architecture,
            member.parameters,
            len(member.classes),
            member.preprocessing.size,
            member.views,
            member.precision,
            kind,
        )
