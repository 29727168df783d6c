from dataclasses import replace

import pytest

from cluster.scheduling.packing import lower_bound, make_plan
from cluster.scheduling.placement import Device, Plan, Work
from cluster.scheduling.simulate import Outage, simulate
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


def _alone(outages: list[Outage]) -> tuple[float, list[Call]]:
    """One device, one member, ten blocks of ten seconds."""
    calls = [Call("predict", make_member("m"), (spec,), n) for n, spec in enumerate(SHARDS[:10])]
    plan = make_plan([Work("m", {"cpu": 100.0}, 1.0, 10)], [Device()])
    return simulate(plan, calls, {"m": {"cpu": 10.0}}, SHARD_BYTES, 256, outages), calls


def test_a_lost_machine_costs_the_time_until_it_is_replaced_and_the_block_under_way() -> None:
    seconds, calls = _alone([Outage(frozenset({0}), 25.0, 30.0, 45.0)])
    assert seconds == pytest.approx(100.0 + 20.0 + 5.0)
    # The block under way and the one that waited behind it.
    assert [sum(call.failures.values()) for call in calls] == [0, 0, 1, 1, *[0] * 6]


def test_a_machine_that_is_lost_after_the_end_or_is_another_costs_nothing() -> None:
    after, other = (
        Outage(frozenset({0}), 101.0, 102.0, 103.0),
        Outage(frozenset({1}), 0.0, 9.0, 99.0),
    )
    assert _alone([after, other])[0] == pytest.approx(100.0)


def test_blocks_of_a_lost_machine_are_done_by_another_one_meanwhile() -> None:
    calls = [Call("predict", make_member("m"), (spec,), n) for n, spec in enumerate(SHARDS[:10])]
    plan = make_plan([Work("m", {"cpu": 100.0}, 1.0, 10)], [Device()] * 2)
    outage = Outage(frozenset({0}), 5.0, 6.0, 1000.0)
    block_s = {"m": {"cpu": 10.0}}
    # At first the window has room for two shards, and those are on the lost machine.
    assert simulate(plan, calls, block_s, SHARD_BYTES, 256, [outage]) == pytest.approx(106.0)


def test_a_call_that_is_lost_too_often_is_given_up() -> None:
    outages = [Outage(frozenset({0}), 5.0 * n + 1, 5.0 * n + 2, 5.0 * n + 3) for n in range(11)]
    with pytest.raises(ValueError, match="was lost 10 times, which is given up"):
        _alone(outages)
