"""64 hosts on 8 machines of a spot market, on a virtual clock: how much of what is up is used."""

import random
from collections.abc import Collection, Iterator

from cluster.scheduling.packing import make_plan
from cluster.scheduling.placement import Device, Work
from cluster.scheduling.simulate import Outage, simulate
from cluster.scheduling.work_queue import Call
from ensemble.images.shard import plan_shards
from jobs.benchmark.synthetic_members import COSTS_MS, SHARD_BYTES, Outcome, synthetic_member

MACHINES, DEVICES_A_MACHINE = 8, 8
# Thorpe et al., Bamboo (NSDI 2023), measured 10 to 33 % of the machines lost an hour; here without the
# notice that markets give.
LOST_AN_HOUR = 0.33
# Until Ray counts a node as dead, and until another machine has started and its hosts take calls.
_NOTICED_S, _REPLACED_S = 30.0, 180.0
# Blocks of 2 to 56 s, so that an hour of 64 hosts is few enough of them to simulate.
_SHARDS, _BLOCK_S_A_MS = 1000, 5.12
# `cluster.shard_window_mb`. With the default of 256 hosts wait for the slowest member of 13 open shards, and
# are busy 0.41 of the time.
WINDOW_MB = 1024


def on_a_spot_market(seed: int, lost_an_hour: float = LOST_AN_HOUR) -> tuple[Outcome, int]:
    """Carry out a plan of an hour with machines that are lost, and count those that were.

    Args:
        seed: Seed of the times at which machines are lost.
        lost_an_hour: How often a machine is lost, an hour.
    """
    specs = plan_shards([str(number) for number in range(_SHARDS)], 1)
    members = [synthetic_member(number, 1) for number in range(len(COSTS_MS))]
    block_s = {
        member.name: {"cpu": _BLOCK_S_A_MS * cost}
        for member, cost in zip(members, COSTS_MS, strict=True)
    }
    works = [Work(n, {"cpu": len(specs) * s["cpu"]}, blocks=len(specs)) for n, s in block_s.items()]
    pairs = [(member, spec) for spec in specs for member in members]
    calls = [Call("predict", m, (spec,), order) for order, (m, spec) in enumerate(pairs)]
    devices = [Device()] * (MACHINES * DEVICES_A_MACHINE)
    plan = make_plan(works, devices)
    outages = list(_outages(random.Random(seed), 2 * plan.seconds, lost_an_hour))
    seconds = simulate(plan, calls, block_s, SHARD_BYTES, WINDOW_MB, outages)
    bound = lower_bound_s(sum(work.seconds["cpu"] for work in works), len(devices), outages)
    lost = sum(outage.start_s < seconds for outage in outages)
    return Outcome(len(devices), plan.seconds, bound, seconds), lost


def _outages(rng: random.Random, until_s: float, lost_an_hour: float) -> Iterator[Outage]:
    for machine in range(MACHINES):
        first = machine * DEVICES_A_MACHINE
        devices = frozenset(range(first, first + DEVICES_A_MACHINE))
        now = rng.expovariate(lost_an_hour / 3600)
        while now < until_s:
            yield Outage(devices, now, now + _NOTICED_S, now + _REPLACED_S)
            now += _REPLACED_S + rng.expovariate(lost_an_hour / 3600)


def lower_bound_s(work_s: float, devices: int, outages: Collection[Outage]) -> float:
    """Give the seconds after which devices have been up for as long as the work takes, together.

    Args:
        work_s: Seconds that the work takes on one device.
        devices: Number of devices.
        outages: When some of them are not up.
    """
    left_s, now, down = work_s, 0.0, 0
    starts = [(outage.start_s, len(outage.devices)) for outage in outages]
    ends = [(outage.end_s, -len(outage.devices)) for outage in outages]
    for time_s, change in sorted([*starts, *ends]):
        done_s = (devices - down) * (time_s - now)
        if done_s >= left_s:
            break
        left_s, now, down = left_s - done_s, time_s, down + change
    return now + left_s / (devices - down)
