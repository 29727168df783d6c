"""A virtual clock for plans: the pool's own work queue, window and failure policy, with workers that only take time.

Pure. Machines may be lost meanwhile, as those of spot markets are.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from cluster.scheduling.failures import Cause, Decision, Failure, decide
from cluster.scheduling.placement import HostPlan, Plan
from cluster.scheduling.work_queue import CALLS_IN_FLIGHT, Call, ShardWindow, WorkQueue
from ensemble.images.shard import ShardSpec

_SECONDS_LEFT = 1e-9


@dataclass(frozen=True)
class Outage:
    """The loss of a machine, until another one is in its place.

    Attributes:
        devices: Devices of the machine, by their places in the plan.
        start_s: Time at which its workers stop, on the clock of the simulation.
        noticed_s: Time at which the dispatcher learns of it, and queues again what they were at.
        end_s: Time from which their successors take calls.
    """

    devices: frozenset[int]
    start_s: float
    noticed_s: float
    end_s: float


@dataclass(eq=False)
class _Host:
    plan: HostPlan
    calls: list[Call] = field(default_factory=list)
    left_s: float = 0.0
    is_down: bool = False


def simulate(
    plan: Plan,
    calls: Sequence[Call],
    block_s: Mapping[str, Mapping[str, float]],
    shard_bytes: int,
    window_mb: int,
    outages: Collection[Outage] = (),
) -> float:
    """Return the seconds until all calls of a plan are done.

    A device is divided equally among its workers that have work; decoding takes no time.

    Args:
        plan: Members on devices.
        calls: One for each member and shard.
        block_s: Seconds that one block takes on a whole device, by member and kind of device.
        shard_bytes: Size of one decoded shard.
        window_mb: Size of the decoded shards to keep, in MB.
        outages: Machines that are lost; a call that is lost more often than the failure policy allows
            ends the simulation.

    Raises:
        ValueError: The failure policy gives a call up.
    """
    now = 0.0
    for number, wave in enumerate(plan.waves):
        names = {share.member for share in wave}
        of_wave = [call for call in calls if call.about.name in names]
        hosts = [_Host(host) for host in plan.hosts(number)]
        clock = _Wave(plan, hosts, of_wave, block_s, (shard_bytes, window_mb))
        now = clock.run(now, outages)
    return now


class _Wave:
    """The hosts of one wave of a plan, and the calls that they share."""

    def __init__(
        self,
        plan: Plan,
        hosts: Sequence[_Host],
        calls: Sequence[Call],
        block_s: Mapping[str, Mapping[str, float]],
        sizes: tuple[int, int],
    ) -> None:
        self._plan, self._hosts, self._block_s = plan, hosts, block_s
        self._shard_bytes, window_mb = sizes
        self._queue, self._window = WorkQueue(calls), ShardWindow(window_mb)
        self._window.expect(calls)

    def run(self, now: float, outages: Collection[Outage]) -> float:
        """Do all calls, from one time on, and return the time of the last."""
        changes = sorted(chain(*map(_changes, outages)), key=lambda change: change[0])
        while True:
            while changes and changes[0][0] <= now:
                _, what, devices = changes.pop(0)
                self._change(what, devices)
            self._begin()
            busy = [host for host in self._hosts if host.calls and not host.is_down]
            if not busy and not len(self._queue) and not any(host.calls for host in self._hosts):
                return now
            until = changes[0][0] if changes else float("inf")
            now = self._work(busy, now, until)

    def _begin(self) -> None:
        for host in self._hosts:
            if host.is_down:
                continue
            _fill(host, self._hosts, self._queue, self._window)
            if host.calls and host.left_s <= 0:
                kind = self._plan.devices[host.plan.device].kind
                host.left_s = self._block_s[host.calls[0].about.name][kind]

    def _work(self, busy: Sequence[_Host], now: float, until: float) -> float:
        """Let time pass until a host is done, or something changes; return the time by then."""
        sharing: dict[int, int] = {}
        for host in busy:
            sharing[host.plan.device] = sharing.get(host.plan.device, 0) + 1
        ends = [host.left_s * sharing[host.plan.device] for host in busy]
        step = min([*ends, until - now])
        for host in busy:
            host.left_s -= step / sharing[host.plan.device]
            if host.left_s <= _SECONDS_LEFT:
                host.left_s = 0.0
                done = host.calls.pop(0)
                self._window.settle(done, dict.fromkeys(done.shards, self._shard_bytes))
        return now + step

    def _change(self, what: str, devices: Collection[int]) -> None:
        for host in self._hosts:
            if host.plan.device not in devices:
                continue
            host.is_down = what != "end"
            host.left_s = 0.0
            if what == "noticed":
                for call in host.calls:
                    self._lose(call)
                host.calls.clear()

    def _lose(self, call: Call) -> None:
        call.failures[Cause.NODE_LOST] += 1
        failure = Failure(Cause.NODE_LOST, call.failures[Cause.NODE_LOST], can_be_quarantined=True)
        if decide(failure) is not Decision.REPLACE:
            raise ValueError(f"{call} was lost {failure.attempts} times, which is given up")
        self._queue.put_back(call)


def _changes(outage: Outage) -> Iterator[tuple[float, str, Collection[int]]]:
    yield outage.start_s, "start", outage.devices
    yield outage.noticed_s, "noticed", outage.devices
    yield outage.end_s, "end", outage.devices


def _fill(host: _Host, hosts: Sequence[_Host], queue: WorkQueue, window: ShardWindow) -> None:
    device = host.plan.device
    is_alone = not any(h.calls for h in hosts if h is not host and h.plan.device == device)
    while call := queue.peek(host.plan, is_alone):
        spec: ShardSpec = call.shards[0]
        if len(host.calls) >= CALLS_IN_FLIGHT["predict"] or not window.has_room(spec):
            return
        queue.take(call, device)
        window.use(spec)
        host.calls.append(call)
