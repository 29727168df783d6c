"""The dispatcher: hands calls to workers, takes their values, and carries out what follows a failure.

It runs in the driver. What a failure means is decided in `cluster/scheduling/failures.py`, which call a
worker takes next in `work_queue.py`, and where workers are in `host_group.py`.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray import exceptions as ray_exceptions

from cluster.pool.host import Host
from cluster.pool.host_group import LOOK_UP_S, HostGroup, HostHandle
from cluster.pool.ray_errors import translate
from cluster.pool.shards import Shards
from cluster.scheduling.failures import LIMITS, Cause, Decision, Failure, backoff_s, decide
from cluster.scheduling.placement import Device
from cluster.scheduling.predict_task import PredictTask
from cluster.scheduling.work_queue import CALLS_IN_FLIGHT, Call, WorkQueue
from cluster.settings import ClusterConfig
from ensemble.errors import MemberFailedError, ProjectError, TableError
from ensemble.images.settings import SourceConfig
from ensemble.images.shard import ShardSpec
from ensemble.images.unlabelled.settings import UnlabelledConfig
from ensemble.members.member import Member
from ensemble.training.task import TrainTask

log = logging.getLogger(__name__)

# The log entry of a group has one or two MB then, and is written as fast as a small one.
MOST_IN_GROUP = 256


@dataclass(frozen=True)
class QuarantinedBlock:
    """A block that killed its worker in every attempt, and is missing from the table.

    Attributes:
        member: The network whose prediction it would have been, or the part that an ensemble lacks.
        shard: The images of the block.
        reason: What ended the last attempt, as a sentence.
    """

    member: Member | PredictTask
    shard: ShardSpec
    reason: str


class Dispatcher:
    """Does calls on the workers of a host group, and makes failed calls again.

    Args:
        config: Settings of the Ray side.
        source: Where images come from.
        devices: GPUs or CPU processes that workers may be placed on.
        is_cluster: Whether nodes come and go, as they do unless Ray is embedded.
        host: Class of the worker actors.
    """

    def __init__(
        self,
        config: ClusterConfig,
        source: SourceConfig | UnlabelledConfig,
        devices: Sequence[Device],
        is_cluster: bool,
        host: type[Host],
    ) -> None:
        self.host_group = HostGroup(config, devices, is_cluster, host)
        self.shards = Shards(source, config.shard_window_mb)
        self._queue = WorkQueue(())
        self._decoder_deaths: Counter[ShardSpec] = Counter()
        self._undecodable: dict[ShardSpec, str] = {}
        self.quarantined: list[QuarantinedBlock] = []
        self.retries: Counter[str] = Counter()

    def run(
        self, calls: Sequence[Call], on_start: Callable[[str], None] = lambda name: None
    ) -> Iterator[tuple[Call, Any]]:
        """Do all calls, and yield each one with its value as soon as it is done.

        Of the spare ones those are done that workers begin while others are under way.

        Args:
            calls: The calls to make; `order` decides which comes first.
            on_start: Receives the name of each training that a worker takes.

        Raises:
            MemberFailedError: A call failed, and its cause allows no further attempt.
            TableError: A worker cannot write the table.
        """
        with self._working_on(calls):
            while self._is_busy():
                for handle in self.host_group.handles:
                    self._fill(handle, on_start)
                for call, value in self._take():
                    self.shards.settle(call)
                    yield call, value
                self._give_up_spare()

    def run_in_groups(
        self, calls: Sequence[Call], pause_s: float
    ) -> Iterator[list[tuple[Call, Any]]]:
        """Do all calls, and yield together what was done since the last group; values must be small.

        The first call to be done after a pause is a group by itself. Workers are busy while the
        receiver deals with a group.

        Args:
            calls: The calls to make; `order` decides which comes first.
            pause_s: Seconds from one group to the next, if fewer than `MOST_IN_GROUP` are done.

        Raises:
            MemberFailedError: A call failed, and its cause allows no further attempt; what was done
                before has been yielded.
            TableError: A worker cannot write the table.
        """
        group: list[tuple[Call, Any]] = []
        next_at = time.monotonic()
        with self._working_on(calls):
            while self._is_busy() or group:
                self._fill_all()
                left_s = max(0.0, next_at - time.monotonic()) if group else LOOK_UP_S
                try:
                    for call, value in self._take(MOST_IN_GROUP - len(group), left_s):
                        group.append((call, value))
                        self.shards.settle(call)
                except ProjectError:
                    if group:
                        yield group
                    raise
                is_due = time.monotonic() >= next_at or len(group) >= MOST_IN_GROUP
                if group and (is_due or not self._is_busy()):
                    self._fill_all()
                    next_at = time.monotonic() + pause_s
                    yield group
                    group = []

    @contextmanager
    def _working_on(self, calls: Sequence[Call]) -> Iterator[None]:
        """Have calls in the queue until the block ends, whatever happens in it."""
        self._queue = WorkQueue(calls)
        self.shards.expect(calls)
        self._keep_only_these(calls)
        try:
            yield
        finally:
            # After a failure, what is still under way must not come up in the next stage.
            self._queue = WorkQueue(())
            for handle in self.host_group.handles:
                handle.calls.clear()

    def _fill_all(self) -> None:
        for handle in self.host_group.handles:
            self._fill(handle, lambda name: None)

    def _is_busy(self) -> bool:
        return len(self._queue) > 0 or any(handle.calls for handle in self.host_group.handles)

    def _give_up_spare(self) -> None:
        """Begin no spare call any more once all that is under way is spare, too."""
        under_way = [call for handle in self.host_group.handles for call in handle.calls.values()]
        if all(call.is_spare for call in under_way):
            self._queue.give_up_spare()

    def _keep_only_these(self, calls: Sequence[Call]) -> None:
        """Have workers forget the networks of members that they no longer carry."""
        columns = {m.column: c.member.name for c in calls if c.verb == "predict" for m in c.members}
        if not columns:
            return
        for handle in self.host_group.handles:
            keep = {column for column, name in columns.items() if name in handle.plan.members}
            handle.actor.keep.remote(keep)

    def _fill(self, handle: HostHandle, on_start: Callable[[str], None]) -> None:
        if handle.is_draining or time.monotonic() < handle.not_before:
            return
        is_alone = self.host_group.is_alone(handle)
        while call := self._queue.peek(handle.plan, is_alone):
            if len(handle.calls) >= CALLS_IN_FLIGHT[call.verb]:
                return
            if any(other.verb == "train" for other in handle.calls.values()):
                return  # it would wait for the training's end, though another worker may be free
            if call.verb != "train" and not self.shards.has_room(call.shards[0]):
                return
            self._queue.take(call, handle.plan.device)
            if call.verb == "train":
                on_start(call.about.name)
            call.kind = self.host_group.kind(handle)
            call.pixels = tuple(self.shards.ref(spec) for spec in call.shards)
            method = getattr(handle.actor, call.method)
            if call.is_kept:
                method = method.options(num_returns=2)
            refs = method.remote(*call.arguments, *call.pixels)
            ref, call.kept = refs if call.is_kept else (refs, None)
            handle.calls[ref] = call

    def _take(self, most: int = 1, wait_s: float = LOOK_UP_S) -> Iterator[tuple[Call, Any]]:
        """Wait for a call, and yield those that are done with their values, without those that failed.

        Args:
            most: How many are yielded at most.
            wait_s: How long to wait for the first of them, in seconds.
        """
        by_ref = {ref: handle for handle in self.host_group.handles for ref in handle.calls}
        ready: list[Any] = []
        if by_ref:
            # Not fetched: blocks come to the driver one at a time, by the `get` below.
            ready, _ = ray.wait(
                list(by_ref), num_returns=1, timeout=min(wait_s, LOOK_UP_S), fetch_local=False
            )
            if most > 1 and ready:
                count = min(most, len(by_ref))
                ready, _ = ray.wait(list(by_ref), num_returns=count, timeout=0, fetch_local=False)
        else:
            time.sleep(0.05)  # every worker is draining, or is given time to answer
        for handle in self.host_group.look_up(bool(ready)):
            self._replace(handle)
        for ref in ready:
            handle = by_ref[ref]
            if ref not in handle.calls:
                continue  # its worker was replaced meanwhile, and the call is queued again
            try:
                value = ray.get(ref)
            except ray_exceptions.RayError as error:
                self._fail(handle, ref, error)
            else:
                yield handle.calls.pop(ref), value

    def _fail(self, handle: HostHandle, ref: Any, error: ray_exceptions.RayError) -> None:
        cause, reason = translate(error)
        call = handle.calls[ref]
        if cause is not Cause.OWN_CODE and self._fail_by_decoder(handle, ref):
            return
        if cause in {Cause.WORKER_LOST, Cause.WORKER_OOM}:
            # A worker does its calls in order: the oldest is the one that was running.
            call = next(iter(handle.calls.values()))
        call.failures[cause] += 1
        decision = self._decide(call, cause, reason, call.failures[cause])
        if decision is Decision.RAISE:
            original = error.cause if isinstance(error, ray_exceptions.RayTaskError) else error
            if isinstance(original, TableError):
                raise original from error  # of the store that a worker writes to, not of a member
            raise self._error(call, call.failures[cause], reason) from original
        if decision is Decision.QUARANTINE:
            self._quarantine(call, reason)
        if cause is Cause.OBJECT_LOST:
            for spec in call.shards:
                self.shards.forget(spec)
        if decision is Decision.REPLACE or cause in {Cause.WORKER_LOST, Cause.WORKER_OOM}:
            self._replace(handle, without=call if decision is Decision.QUARANTINE else None)
        else:
            handle.calls.pop(ref)
            handle.not_before = time.monotonic() + backoff_s(cause, call.failures[cause])
            self._queue.put_back(call)

    def _fail_by_decoder(self, handle: HostHandle, ref: Any) -> bool:
        """Deal with a call whose shard could not be decoded; return whether that was the failure."""
        call = handle.calls[ref]
        for spec, pixels in zip(call.shards, call.pixels, strict=True):
            # Another call that used these pixels has reported the decoder already.
            is_known = not self.shards.holds(spec, pixels)
            error = None if is_known else self.shards.decode_error(spec)
            if not is_known and error is None:
                continue
            del handle.calls[ref]
            self._queue.put_back(call)
            if error is not None:
                self._count_decoder_death(call, spec, error)
            if spec in self._undecodable:
                for waiting in self._queue.drop(spec):
                    self._quarantine(waiting, self._undecodable[spec])
            return True
        return False

    def _count_decoder_death(
        self, call: Call, spec: ShardSpec, error: ray_exceptions.RayError
    ) -> None:
        self.shards.forget(spec)
        self._decoder_deaths[spec] += 1
        cause, reason = translate(error)
        if cause in {Cause.WORKER_LOST, Cause.WORKER_OOM}:
            cause = Cause.DECODER_LOST
        decision = self._decide(call, cause, reason, self._decoder_deaths[spec])
        if decision is Decision.RAISE:
            raise self._error(call, self._decoder_deaths[spec], reason) from error
        if decision is Decision.QUARANTINE:
            self._undecodable[spec] = reason

    def _decide(self, call: Call, cause: Cause, reason: str, attempts: int) -> Decision:
        num_quarantined = sum(block.member.name == call.about.name for block in self.quarantined)
        decision = decide(Failure(cause, attempts, call.verb != "train", num_quarantined))
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

    def _quarantine(self, call: Call, reason: str) -> None:
        if isinstance(call.about, TrainTask):
            raise TypeError(f"{call} is no prediction.")
        self.quarantined.append(QuarantinedBlock(call.about, call.shards[0], reason))
        self.shards.settle(call, is_done=False)

    def _replace(self, handle: HostHandle, without: Call | None = None) -> None:
        """Start a new worker for one that is gone; queue again what was under way on it."""
        for call in handle.calls.values():
            if call is not without:
                self._queue.put_back(call)
        handle.calls.clear()
        self.host_group.replace(handle)
