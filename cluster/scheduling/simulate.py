"""A virtual clock for plans: the pool's own work queue and window, with workers that only take time. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cluster.scheduling.placement import HostPlan, Plan
from cluster.scheduling.work_queue import CALLS_IN_FLIGHT, Call, ShardWindow, WorkQueue
from ensemble.images.shard import ShardSpec

_SECONDS_LEFT = 1e-9


@dataclass(eq=False)
class _Host:
    plan: HostPlan
    calls: list[Call] = field(default_factory=list)
    left_s: float = 0.0


def simulate(
    plan: Plan,
    calls: Sequence[Call],
    block_s: Mapping[str, Mapping[str, float]],
    shard_bytes: int,
    window_mb: int,
) -> float:
    """Return the seconds until all calls of a plan are done.

    A device is divided equally among its workers that have work; decoding takes no time.

    Args:
        plan: Members on devices.
        calls: One for each member and shard.
        block_s: Seconds that one block takes on a whole device, by member and kind of device.
        shard_bytes: Size of one decoded shard.
        window_mb: Size of the decoded shards to keep, in MB.
    """
    now = 0.0
    for number, wave in enumerate(plan.waves):
        names = {share.member for share in wave}
        of_wave = [call for call in calls if call.about.name in names]
        now += _wave(plan, number, of_wave, block_s, (shard_bytes, window_mb))
    return now


def _wave(
    plan: Plan,
    number: int,
    calls: Sequence[Call],
    block_s: Mapping[str, Mapping[str, float]],
    sizes: tuple[int, int],
) -> float:
    hosts = [_Host(host) for host in plan.hosts(number)]
    queue, window, now = WorkQueue(calls), ShardWindow(sizes[1]), 0.0
    window.expect(calls)

    def begin(host: _Host) -> None:
        kind = plan.devices[host.plan.device].kind
        host.left_s = block_s[host.calls[0].about.name][kind]

    while True:
        for host in hosts:
            _fill(host, hosts, queue, window)
            if host.calls and host.left_s <= 0:
                begin(host)
        busy = [host for host in hosts if host.calls]
        if not busy:
            return now
        sharing = {
            device: sum(host.plan.device == device for host in busy)
            for device in {host.plan.device for host in busy}
        }
        step = min(host.left_s * sharing[host.plan.device] for host in busy)
        now += step
        for host in busy:
            host.left_s -= step / sharing[host.plan.device]
            if host.left_s <= _SECONDS_LEFT:
                host.left_s = 0.0
                done = host.calls.pop(0)
                window.settle(done, dict.fromkeys(done.shards, sizes[0]))


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
