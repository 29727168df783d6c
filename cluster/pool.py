"""The pool: hosts as Ray actors, a window of calls on each, and what happens when one fails."""

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import ray
from ray import exceptions as ray_errors

from cluster.failures import Cause, Decision, Failure, decide
from cluster.host import Host
from cluster.placement import HostPlan, plan_on_cpus, plan_on_gpus
from cluster.session import session
from cluster.settings import ClusterConfig
from cluster.shards import Shards
from ensemble.errors import ClusterError, MemberFailedError, ProjectError
from ensemble.images.settings import SourceConfig
from ensemble.images.shard import ShardSpec
from ensemble.members import Member
from ensemble.search.config import SearchConfig
from ensemble.search.fit import fit
from ensemble.search.outranking import OutrankingTable
from ensemble.search.result import Ensemble
from ensemble.table.block import LogitBlock
from ensemble.training.task import TrainTask

log = logging.getLogger(__name__)

# One block computes while the next one's shard travels; a training waits for the first free host.
CALLS_IN_FLIGHT = {"train": 1, "predict": 2}


@dataclass
class Call:
    """One piece of work: a verb of `Host`, what it is about, and the shards that it needs."""

    verb: Literal["train", "predict"]
    about: TrainTask | Member
    shards: tuple[ShardSpec, ...]
    attempts: int = 0


@dataclass
class _Worker:
    """A host actor, the calls that only it may do, and those under way on it, oldest first."""

    plan: HostPlan
    actor: Any
    queue: deque[Call] = field(default_factory=deque)
    calls: dict[Any, Call] = field(default_factory=dict)


class Pool:
    """Host actors that train and predict. Use `open_pool`."""

    def __init__(
        self, config: ClusterConfig, source: SourceConfig, cost_by_member: dict[str, float]
    ) -> None:
        self._device, plans = _plan(config, cost_by_member)
        self._workers = [_Worker(plan, self._start_host(plan)) for plan in plans]
        self._shards = Shards(source, config.shard_window_mb)
        self._on_start: Callable[[str], None] = lambda name: None
        self.retries = 0

    @property
    def num_hosts(self) -> int:
        """Host actors."""
        return len(self._workers)

    @property
    def decoded_images(self) -> int:
        """Images decoded so far."""
        return self._shards.decoded_images

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
        calls = deque(Call("train", task, tuple(shards)) for task in tasks)
        self._on_start = on_start
        for call, _ in self._run(calls):
            assert isinstance(call.about, TrainTask)
            yield call.about

    def predict(
        self, work: Iterable[tuple[ShardSpec, Sequence[Member]]]
    ) -> Iterator[tuple[Member, LogitBlock]]:
        """Predict shards with members; blocks come as they are done.

        Args:
            work: Shards in order, each with the members that lack it.
        """
        hosts = {name: worker for worker in self._workers for name in worker.plan.members}
        anywhere: deque[Call] = deque()
        for spec, members in work:
            for member in members:
                worker = hosts.get(member.name)
                (worker.queue if worker else anywhere).append(Call("predict", member, (spec,)))
        for call, block in self._run(anywhere):
            assert isinstance(call.about, Member)
            yield call.about, block

    def _run(self, anywhere: deque[Call]) -> Iterator[tuple[Call, Any]]:
        """Do all queued calls; a host takes its own first, then those that may run anywhere."""
        queues = (anywhere, *(worker.queue for worker in self._workers))
        waited_for = Counter(spec for queue in queues for call in queue for spec in call.shards)
        try:
            yield from self._drain(anywhere, waited_for)
        finally:
            # After a failure, what is still queued must not come up in the next stage.
            for worker in self._workers:
                worker.queue.clear()
                worker.calls.clear()

    def _drain(
        self, anywhere: deque[Call], waited_for: Counter[ShardSpec]
    ) -> Iterator[tuple[Call, Any]]:
        while True:
            for worker in self._workers:
                self._fill(worker, anywhere, waited_for)
            refs = [ref for worker in self._workers for ref in worker.calls]
            if not refs:
                return
            ready, _ = ray.wait(refs, num_returns=1)
            worker = next(worker for worker in self._workers if ready[0] in worker.calls)
            call, value = self._take(worker, ready[0])
            if call is not None:
                waited_for.subtract(call.shards)
                for spec in call.shards:
                    self._shards.settle(waited_for, spec)
                yield call, value

    def _fill(self, worker: _Worker, anywhere: deque[Call], waited_for: Counter[ShardSpec]) -> None:
        while queue := worker.queue or anywhere:
            call = queue[0]
            if len(worker.calls) >= CALLS_IN_FLIGHT[call.verb]:
                return
            if call.verb == "predict" and not self._shards.has_room(waited_for, call.shards[0]):
                return
            queue.popleft()
            if call.verb == "train":
                self._on_start(call.about.name)
            pixels = [self._shards.ref(spec) for spec in call.shards]
            method = getattr(worker.actor, call.verb)
            worker.calls[method.remote(call.about, *pixels)] = call

    def _take(self, worker: _Worker, ref: Any) -> tuple[Call | None, Any]:
        """A finished call and its value; no call if it failed and was queued again."""
        try:
            value = ray.get(ref)
        except ray_errors.RayError as error:
            self._fail(worker, ref, error)
            return None, None
        return worker.calls.pop(ref), value

    def _fail(self, worker: _Worker, ref: Any, error: ray_errors.RayError) -> None:
        cause, reason = _translate(error)
        # A host does its calls in order: the oldest is the one that was running.
        culprit = (
            next(iter(worker.calls.values())) if cause is Cause.HOST_LOST else worker.calls[ref]
        )
        culprit.attempts += 1
        decision = decide(Failure(cause, culprit.attempts))
        what = f"{culprit.verb} of {culprit.about.name!r}"
        if decision is Decision.RAISE:
            raise MemberFailedError(
                f"{what} failed in attempt {culprit.attempts}: {reason} Everything finished "
                "before is kept; mend the cause and run again.",
                culprit.about.name,
            ) from (error.cause if isinstance(error, ray_errors.RayTaskError) else error)
        self.retries += 1
        log.warning(
            "%s: %s (%s), attempt %d; %s",
            what,
            cause.value,
            reason,
            culprit.attempts,
            decision.value,
        )
        if decision is Decision.REPLACE_HOST:
            worker.queue.extendleft(reversed(worker.calls.values()))
            worker.calls.clear()
            worker.actor = self._start_host(worker.plan)
        else:
            worker.queue.appendleft(worker.calls.pop(ref))

    def _start_host(self, plan: HostPlan) -> Any:
        # Ray would restart it in silence; the pool replaces it itself, counts and says so.
        options = {"num_cpus": plan.cpu_share, "num_gpus": plan.gpu_share, "max_restarts": 0}
        return ray.remote(Host).options(**options).remote(self._device, 1)


@contextmanager
def open_pool(
    config: ClusterConfig, source: SourceConfig, cost_by_member: dict[str, float]
) -> Iterator[Pool]:
    """A pool on an embedded Ray, or on the cluster that RAY_ADDRESS names; ended in any case.

    Args:
        config: Where and how wide.
        source: Where images come from.
        cost_by_member: Relative cost of each member of the pool.
    """
    with session(config):
        yield Pool(config, source, cost_by_member)


class SearchHandle:
    """A search under way."""

    def __init__(self, ref: Any) -> None:
        self._ref = ref

    def result(self) -> Ensemble:
        """Wait for the weights."""
        try:
            ensemble: Ensemble = ray.get(self._ref)
        except ray_errors.RayError as error:
            raise ClusterError(f"the search failed: {_translate(error)[1]}") from error
        return ensemble


@ray.remote(num_cpus=1, max_retries=3)  # type: ignore[untyped-decorator]
def _search(table: OutrankingTable, config: SearchConfig) -> Ensemble:
    return fit(table, config)


def start_search(table: OutrankingTable, config: SearchConfig) -> SearchHandle:
    """Start the search in a task of its own, beside whatever the pool does meanwhile."""
    return SearchHandle(_search.remote(table, config))


def _plan(
    config: ClusterConfig, cost_by_member: dict[str, float]
) -> tuple[str, tuple[HostPlan, ...]]:
    resources = ray.cluster_resources()
    num_gpus = int(resources.get("GPU", 0))
    # One CPU stays free for decoding and searching.
    num_cpus = max(1, int(resources.get("CPU", 1)) - 1)
    if config.device == "cuda" or (config.device == "auto" and num_gpus):
        return "cuda", plan_on_gpus(tuple(cost_by_member), num_gpus, num_cpus)
    return "cpu", plan_on_cpus(cost_by_member, min(config.hosts or num_cpus, num_cpus))


def _translate(error: ray_errors.RayError) -> tuple[Cause, str]:
    """The one place where Ray's exceptions become ours."""
    if isinstance(error, ray_errors.RayTaskError):
        cause = error.cause
        reason = (
            str(cause) if isinstance(cause, ProjectError) else f"{type(cause).__name__}: {cause}"
        )
        return Cause.OWN_CODE, reason if reason.endswith(".") else f"{reason}."
    if isinstance(error, ray_errors.ObjectLostError | ray_errors.ObjectStoreFullError):
        return Cause.OBJECT_LOST, f"{type(error).__name__}."
    return Cause.HOST_LOST, f"{str(error).splitlines()[0].rstrip('.')}."
