"""Calls that wait, which of them a worker may take next, and which shards may be open meanwhile.

Pure: the dispatcher and the virtual clock of `simulate.py` run the same code.
"""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from cluster.scheduling.failures import Cause
from cluster.scheduling.placement import HostPlan
from cluster.scheduling.predict_task import PredictTask
from ensemble.images.shard import ShardSpec
from ensemble.members.member import Member
from ensemble.table.shard_writer import ShardWriter
from ensemble.training.task import TrainTask

Verb = Literal["train", "measure", "predict", "answer"]

# One block computes while the next one's shard travels; a training waits for the first free worker.
CALLS_IN_FLIGHT: dict[Verb, int] = {"train": 1, "measure": 1, "predict": 2, "answer": 2}
# Methods of `Host` that leave the block in the table's store and return no row of it.
_WRITING: dict[Verb, str] = {"measure": "measure_and_write", "predict": "predict_and_write"}
_READING: dict[Verb, str] = {"predict": "predict_each"}
# The same, with the rows as a second value, which stays where it is.
_KEEPING: dict[Verb, str] = {"measure": "measure_and_keep", "predict": "predict_and_keep"}
_MB = 1 << 20


@dataclass(eq=False)
class Call:
    """One piece of work: a method of `Host`, and what it needs.

    Attributes:
        verb: What a worker is to do.
        about: The training, the network that predicts, or the part that an ensemble answers.
        shards: Shards whose images it needs.
        order: Place in the work: all members of a shard before the next shard.
        failures: How often it ended without a value, by cause.
        pixels: References to the decoded shards, while it is under way.
        kind: Kind of the device that it went to last.
        batch_images: Images a batch that are known to fit into memory; the usual number if none.
        writer: Writes the block where it is computed; none if the driver gets the rows.
        is_spare: Whether nothing waits for it, so that it is made only while other calls are under way.
        is_kept: Whether the rows of what is written stay in the object store, too.
        kept: Reference to these rows, while it is under way.
        views: Members that the network predicts, a block each, where kept views make it several.
    """

    verb: Verb
    about: TrainTask | Member | PredictTask
    shards: tuple[ShardSpec, ...]
    order: int = 0
    failures: Counter[Cause] = field(default_factory=Counter)
    pixels: tuple[Any, ...] = ()
    kind: str = ""
    batch_images: int | None = None
    writer: ShardWriter | None = None
    is_spare: bool = False
    is_kept: bool = False
    kept: Any = None
    views: tuple[Member, ...] = ()

    @property
    def owner(self) -> str | None:
        """Name of the member whose workers alone may do it; none if any worker may."""
        return self.about.name if self.verb == "predict" else None

    @property
    def member(self) -> Member:
        """The network that predicts, as a member with all of its views.

        Raises:
            TypeError: The call is a training, or a part that an ensemble answers.
        """
        if not isinstance(self.about, Member):
            raise TypeError(f"{self} is not about a member.")
        return self.about

    @property
    def members(self) -> tuple[Member, ...]:
        """The members whose blocks it makes, in order."""
        return self.views or (self.member,)

    @property
    def method(self) -> str:
        """Name of the method of `Host` that does it."""
        if self.is_kept:
            return _KEEPING[self.verb]
        return _WRITING[self.verb] if self.writer else _READING.get(self.verb, self.verb)

    @property
    def arguments(self) -> tuple[Any, ...]:
        """Arguments of the method that stand before the shards."""
        if self.verb in ("train", "answer"):
            return (self.about,)
        if self.writer:
            return (self.writer, self.members, self.batch_images)
        return (self.members, self.batch_images)

    def __str__(self) -> str:
        return f"{self.verb} of {self.about.name!r}{self._where()}"

    def _where(self) -> str:
        if self.verb == "train":
            return ""
        ids = self.shards[0].image_ids
        return f" on {len(ids)} images from {ids[0]!r}"


class WorkQueue:
    """Calls that wait, in the order of the work; replicas take their planned part of a member's calls.

    A replica that took more would be ahead with one member and late with those it shares its GPU
    with, and all workers wait for the latest.

    Args:
        calls: The calls in any order; their `order` decides.
    """

    def __init__(self, calls: Iterable[Call]) -> None:
        self._by_owner: dict[str | None, deque[Call]] = {}
        for call in sorted(calls, key=lambda call: call.order):
            self._by_owner.setdefault(call.owner, deque()).append(call)
        self._taken: Counter[str | None] = Counter()
        self._taken_by: Counter[tuple[str | None, int]] = Counter()

    def __len__(self) -> int:
        return sum(map(len, self._by_owner.values()))

    def peek(self, host: HostPlan, is_alone: bool = True) -> Call | None:
        """Return the first call that a worker may do; none if there is none for it.

        Args:
            host: Plan of the worker, with its members and fractions.
            is_alone: Whether no other worker computes on its device, so that it may take more than
                its part without making another one late.
        """
        fractions = host.fractions or (1.0,) * len(host.members)
        owners = [None, *(m for m, f in zip(host.members, fractions, strict=True) if f >= 1)]
        parts = [(m, f) for m, f in zip(host.members, fractions, strict=True) if f < 1]
        owners += [m for m, f in parts if is_alone or self._has_part(m, host.device, f)]
        heads = [queue[0] for owner in owners if (queue := self._by_owner.get(owner))]
        return min(heads, key=lambda call: call.order, default=None)

    def take(self, call: Call, device: int = 0) -> None:
        """Remove a call that `peek` has returned for a worker on a device."""
        self._by_owner[call.owner].popleft()
        self._taken[call.owner] += 1
        self._taken_by[call.owner, device] += 1

    def _has_part(self, owner: str, device: int, fraction: float) -> bool:
        return self._taken_by[owner, device] <= fraction * (self._taken[owner] + 1)

    def put_back(self, call: Call) -> None:
        """Queue a call again, in its place."""
        queue = self._by_owner.setdefault(call.owner, deque())
        later = [c for c in queue if c.order > call.order]
        earlier = [c for c in queue if c.order <= call.order]
        self._by_owner[call.owner] = deque([*earlier, call, *later])

    def give_up_spare(self) -> None:
        """Remove what is spare if nothing else waits."""
        waiting = [call for queue in self._by_owner.values() for call in queue]
        if all(call.is_spare for call in waiting):
            self._by_owner.clear()

    def drop(self, spec: ShardSpec) -> list[Call]:
        """Remove and return every call that needs a shard."""
        dropped = []
        for owner, queue in self._by_owner.items():
            dropped += [call for call in queue if spec in call.shards]
            self._by_owner[owner] = deque(call for call in queue if spec not in call.shards)
        return sorted(dropped, key=lambda call: call.order)


class ShardWindow:
    """Decides which shards may be open: two always, more while their bytes allow.

    A shard is open from its decode until no call waits for it, so that a fast worker does not run
    ahead of a slow one by more than the window.

    Args:
        window_mb: Size of the decoded shards to keep, in MB; shards in use are kept beyond it.
    """

    def __init__(self, window_mb: int) -> None:
        self._window_bytes = window_mb * _MB
        self._waiting: Counter[ShardSpec] = Counter()
        self._sizes: dict[ShardSpec, int] = {}  # size in bytes, 0 while unknown; oldest use first

    def expect(self, calls: Iterable[Call]) -> None:
        """Start over with the calls that will wait for shards."""
        self._waiting = Counter(spec for call in calls for spec in call.shards)

    def has_room(self, spec: ShardSpec) -> bool:
        """Tell whether a shard may be used now."""
        is_open = {shard for shard in self._sizes if self._waiting[shard] > 0}
        if spec in is_open or len(is_open) < 2:
            return True
        largest = max(self._sizes.values())
        return 0 < (len(is_open) + 1) * largest <= self._window_bytes

    def use(self, spec: ShardSpec) -> None:
        """Note that a shard is held, and used last."""
        self._sizes[spec] = self._sizes.pop(spec, 0)

    def forget(self, spec: ShardSpec) -> None:
        """Note that a shard is held no more."""
        self._sizes.pop(spec, None)

    def settle(self, call: Call, size_bytes: dict[ShardSpec, int]) -> list[ShardSpec]:
        """Note that a call waits no more; return the idle shards to drop, the oldest first."""
        self._waiting.subtract(call.shards)
        for spec, size in size_bytes.items():
            if spec in self._sizes:
                self._sizes[spec] = size
        total, idle = sum(self._sizes.values()), []
        for spec in list(self._sizes):
            if total <= self._window_bytes:
                break
            if self._waiting[spec] <= 0:
                total -= self._sizes.pop(spec)
                idle.append(spec)
        return idle
