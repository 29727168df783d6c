from dataclasses import replace

import pytest

from cluster.scheduling.packing import lower_bound, make_plan
from cluster.scheduling.placement import Device, Plan, Work
from cluster.scheduling.simulate import simulate
from cluster.scheduling.work_queue import Call
from ensemble.images.shard import plan_shards

from ...members import make_member

# What 13 members cost an image, in ms: a pool from small to large, as pools are.
COSTS_MS = (0.4, 0.6, 0.9, 1.1, 1.5, 1.8, 2.0, 2.6, 3.5, 4.1, 5.0, 7.5, 11.0)
SHARDS = plan_shards([str(number) for number in range(12_800)], 128)
SHARD_BYTES = 128 * 224 * 224 * 3


def _simulate(devices: list[Device], memory_mb: float = 1000.0) -> tuple[Plan, float, float]:
    block_s = {
        f"m{i}": {device.kind: 128 * cost / 1e3 * speed for device, speed in _speeds(devices)}
        for i, cost in enumerate(COSTS_MS)
    }
    works = [
        Work(name, {kind: len(SHARDS) * s for kind, s in by_kind.items()}, memory_mb, len(SHARDS))
        for name, by_kind in block_s.items()
    ]
    members = {name: make_member(name) for name in block_s}
    pairs = [(member, spec) for spec in SHARDS for member in members.values()]
    calls = [Call("predict", m, (spec,), order) for order, (m, spec) in enumerate(pairs)]
    plan = make_plan(works, devices)
    return plan, simulate(plan, calls, block_s, SHARD_BYTES, 256), lower_bound(works, devices)


def _speeds(devices: list[Device]) -> list[tuple[Device, float]]:
    return [(device, 3.0 if device.kind == "L4" else 1.0) for device in devices]


@pytest.mark.parametrize("num_hosts", [1, 2, 4, 8])
@pytest.mark.parametrize("device", [Device(), Device("A100", 80_000, 4)], ids=["cpu", "gpu"])
def test_hosts_are_busy_nine_tenths_of_the_time_and_the_plan_says_how_long(
    device: Device, num_hosts: int
) -> None:
    plan, seconds, bound = _simulate([device] * num_hosts)
    assert bound / seconds >= 0.9
    assert plan.seconds == pytest.approx(seconds, rel=0.15)


def test_nothing_ends_before_the_lower_bound() -> None:
    for num_hosts in (1, 3):
        _, seconds, bound = _simulate([Device()] * num_hosts)
        assert seconds >= bound * (1 - 1e-9)


def test_gpus_of_two_kinds_end_together() -> None:
    plan, seconds, _ = _simulate([Device("A100", 80_000, 4), Device("L4", 24_000, 4)])
    assert plan.seconds == pytest.approx(seconds, rel=0.15)


def test_waves_come_one_after_the_other() -> None:
    one, alone, _ = _simulate([Device("A100", 80_000, 4)])
    two, apart, _ = _simulate([replace(Device("A100", 80_000, 4), memory_mb=12_000)])
    assert (len(one.waves), len(two.waves)) == (1, 2)
    assert apart == pytest.approx(alone, rel=0.01)
