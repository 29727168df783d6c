"""The crew: calls under way on hosts, and what happens when one fails."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray import exceptions as ray_errors

from cluster.pool.host import Host
from cluster.pool.host_group import LOOK_UP_S, Roster, Worker
from cluster.pool.ray_errors import translate
from cluster.pool.shards import Shards
from cluster.scheduling.failures import LIMITS, Cause, Decision, Failure, backoff_s, decide
from cluster.scheduling.placement import Device
from cluster.scheduling.work_queue import CALLS_IN_FLIGHT, Call, Queue
from cluster.settings import ClusterConfig
from ensemble.errors import MemberFailedError
from ensemble.images.settings import SourceConfig
from ensemble.images.shard import ShardSpec
from ensemble.members.member import Member

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeftOut:
    """A block that killed its worker every time, and is missing."""

    member: Member
    shard: ShardSpec
    reason: str


class Crew:
    """Does calls on host actors.

    Args:
        config: Settings of the Ray side.
        source: Where images come from.
        devices: Where hosts may go.
        is_cluster: Whether nodes come and go.
        host: What the actors are.
    """

    def __init__(
        self,
        config: ClusterConfig,
        source: SourceConfig,
        devices: Sequence[Device],
        is_cluster: bool,
        host: type[Host],
    ) -> None:
        self.roster = Roster(config, devices, is_cluster, host)
        self.shards = Shards(source, config.shard_window_mb)
        self._queue = Queue(())
        self._decoder_deaths: Counter[ShardSpec] = Counter()
        self._poison: dict[ShardSpec, str] = {}
        self.left_out: list[LeftOut] = []
        self.retries: Counter[str] = Counter()

    def run(
        self, calls: Sequence[Call], on_start: Callable[[str], None] = lambda name: None
    ) -> Iterator[tuple[Call, Any]]:
        """Do all calls; each comes back with its value, as they are done.

        Raises:
            MemberFailedError: A call failed for good.
        """
        self._queue = Queue(calls)
        self.shards.expect(calls)
        self._keep_only_these(calls)
        try:
            while self._is_busy():
                for worker in self.roster.workers:
                    self._fill(worker, on_start)
                for call, value in self._take():
                    self.shards.settle(call)
                    yield call, value
        finally:
            # After a failure, what is still under way must not come up in the next stage.
            self._queue = Queue(())
            for worker in self.roster.workers:
                worker.calls.clear()

    def _is_busy(self) -> bool:
        return len(self._queue) > 0 or any(worker.calls for worker in self.roster.workers)

    def _keep_only_these(self, calls: Sequence[Call]) -> None:
        """Hosts forget the networks of members that they no longer carry."""
        columns = {c.member.column: c.member.name for c in calls if c.verb == "predict"}
        if not columns:
            return
        for worker in self.roster.workers:
            keep = {column for column, name in columns.items() if name in worker.plan.members}
            worker.actor.keep.remote(keep)

    def _fill(self, worker: Worker, on_start: Callable[[str], None]) -> None:
        if worker.is_draining or time.monotonic() < worker.not_before:
            return
        is_alone = self.roster.is_alone(worker)
        while call := self._queue.peek(worker.plan, is_alone):
            if len(worker.calls) >= CALLS_IN_FLIGHT[call.verb]:
                return
            if call.verb != "train" and not self.shards.has_room(call.shards[0]):
                return
            self._queue.take(call, worker.plan.device)
            if call.verb == "train":
                on_start(call.about.name)
            call.kind = self.roster.kind(worker)
            call.pixels = tuple(self.shards.ref(spec) for spec in call.shards)
            method = getattr(worker.actor, call.verb)
            worker.calls[method.remote(*call.arguments, *call.pixels)] = call

    def _take(self) -> Iterator[tuple[Call, Any]]:
        """Wait for one call; give it with its value, or nothing if it failed."""
        by_ref = {ref: worker for worker in self.roster.workers for ref in worker.calls}
        ready: list[Any] = []
        if by_ref:
            # Not fetched: a block comes to the driver when it is asked for, one at a time.
            ready, _ = ray.wait(list(by_ref), num_returns=1, timeout=LOOK_UP_S, fetch_local=False)
        else:
            time.sleep(0.05)  # every host is draining, or is given time to answer
        for moving in self.roster.look_up(bool(ready)):
            self._replace(moving)
        for ref in ready:
            worker = by_ref[ref]
            if ref not in worker.calls:
                continue  # it went with its host meanwhile
            try:
                value = ray.get(ref)
            except ray_errors.RayError as error:
                self._fail(worker, ref, error)
            else:
                yield worker.calls.pop(ref), value

    def _fail(self, worker: Worker, ref: Any, error: ray_errors.RayError) -> None:
        cause, reason = translate(error)
        call = worker.calls[ref]
        if cause is not Cause.OWN_CODE and self._fail_by_decoder(worker, ref):
            return
        if cause in {Cause.HOST_LOST, Cause.HOST_OOM}:
            # A host does its calls in order: the oldest is the one that was running.
            call = next(iter(worker.calls.values()))
        call.failures[cause] += 1
        decision = self._decide(call, cause, reason, call.failures[cause])
        if decision is Decision.RAISE:
            original = error.cause if isinstance(error, ray_errors.RayTaskError) else error
            raise self._error(call, call.failures[cause], reason) from original
        if decision is Decision.QUARANTINE:
            self._leave_out(call, reason)
        if cause is Cause.OBJECT_LOST:
            for spec in call.shards:
                self.shards.forget(spec)
        if decision is Decision.REPLACE or cause in {Cause.HOST_LOST, Cause.HOST_OOM}:
            self._replace(worker, without=call if decision is Decision.QUARANTINE else None)
        else:
            worker.calls.pop(ref)
            worker.not_before = time.monotonic() + backoff_s(cause, call.failures[cause])
            self._queue.put_back(call)

    def _fail_by_decoder(self, worker: Worker, ref: Any) -> bool:
        """Deal with a call whose shard could not be decoded; false if that is not what it was."""
        call = worker.calls[ref]
        for spec, pixels in zip(call.shards, call.pixels, strict=True):
            is_known = not self.shards.holds(spec, pixels)  # another call has told of this death
            error = None if is_known else self.shards.died(spec)
            if not is_known and error is None:
                continue
            del worker.calls[ref]
            self._queue.put_back(call)
            if error is not None:
                self._count_decoder_death(call, spec, error)
            if spec in self._poison:
                for waiting in self._queue.drop(spec):
                    self._leave_out(waiting, self._poison[spec])
            return True
        return False

    def _count_decoder_death(self, call: Call, spec: ShardSpec, error: ray_errors.RayError) -> None:
        self.shards.forget(spec)
        self._decoder_deaths[spec] += 1
        cause, reason = translate(error)
        if cause in {Cause.HOST_LOST, Cause.HOST_OOM}:
            cause = Cause.DECODER_LOST
        decision = self._decide(call, cause, reason, self._decoder_deaths[spec])
        if decision is Decision.RAISE:
            raise self._error(call, self._decoder_deaths[spec], reason) from error
        if decision is Decision.QUARANTINE:
            self._poison[spec] = reason

    def _decide(self, call: Call, cause: Cause, reason: str, attempts: int) -> Decision:
        quarantined = sum(out.member.name == call.about.name for out in self.left_out)
        decision = decide(Failure(cause, attempts, call.verb != "train", quarantined))
        if decision is not Decision.RAISE:
            self.retries[call.about.name] += 1
            log.warning(
                "%s: %s (%s), attempt %d of %d; %s",
                call,
                cause.value,
                reason,
                attempts,
                LIMITS[cause],
                decision.value,
            )
        return decision

    @staticmethod
    def _error(call: Call, attempts: int, reason: str) -> MemberFailedError:
        return MemberFailedError(
            f"{call} failed in attempt {attempts}: {reason} Everything finished before is kept; "
            "mend the cause and run again.",
            call.about.name,
        )

    def _leave_out(self, call: Call, reason: str) -> None:
        self.left_out.append(LeftOut(call.member, call.shards[0], reason))
        self.shards.settle(call, is_done=False)

    def _replace(self, worker: Worker, without: Call | None = None) -> None:
        """A new host for one that is gone; what was under way on it is queued again."""
        for call in worker.calls.values():
            if call is not without:
                self._queue.put_back(call)
        worker.calls.clear()
        self.roster.replace(worker)
