from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.scheduling.packing import lower_bound, make_plan
from cluster.scheduling.placement import (
    CONTEXT_MB,
    USABLE,
    Device,
    HostPer,
    Plan,
    Work,
    whole_devices,
)
from ensemble.errors import ClusterError

HOSTS_PER = st.sampled_from(["member", "gpu"])
GPU = Device("A100", memory_mb=40_960, cpus=4)


@st.composite
def works(draw: st.DrawFn, kinds: tuple[str, ...], largest_mb: float = 0.0) -> list[Work]:
    seconds, memory_mb = st.floats(0.1, 100), st.floats(0, largest_mb)
    return [
        Work(
            f"m{i}",
            {kind: draw(seconds) for kind in kinds},
            whole_mb := draw(memory_mb),
            draw(st.integers(1, 400)),
            whole_mb * draw(st.floats(0, 1)),
        )
        for i in range(draw(st.integers(1, 13)))
    ]


@st.composite
def gpu_problems(draw: st.DrawFn) -> tuple[list[Work], list[Device], HostPer]:
    kinds = ("A100", "L4")
    largest_mb = 24_000 * USABLE - CONTEXT_MB
    devices = [
        Device(draw(st.sampled_from(kinds)), draw(st.floats(24_000, 80_000)), draw(st.floats(1, 8)))
        for _ in range(draw(st.integers(1, 8)))
    ]
    return draw(works(kinds, largest_mb)), devices, draw(HOSTS_PER)


@given(gpu_problems())
def test_all_of_every_member_is_placed(problem: tuple[list[Work], list[Device], HostPer]) -> None:
    members, devices, host_per = problem
    placed = dict.fromkeys((work.name for work in members), 0.0)
    for wave in make_plan(members, devices, host_per).waves:
        for share in wave:
            placed[share.member] += share.fraction
    assert placed == pytest.approx(dict.fromkeys(placed, 1.0))


@given(gpu_problems())
def test_no_gpu_is_shared_out_beyond_itself_or_its_memory(
    problem: tuple[list[Work], list[Device], HostPer],
) -> None:
    members, devices, host_per = problem
    plan = make_plan(members, devices, host_per)
    for number, wave in enumerate(plan.waves):
        hosts = plan.hosts(number)
        for index, device in enumerate(devices):
            here = [host for host in hosts if host.device == index]
            assert sum(host.gpu_share for host in here) <= 1 + 1e-9
            assert sum(host.memory_fraction for host in here) <= USABLE + 1e-9
            assert sum(host.cpu_share for host in here) <= device.cpus + 1e-3
            assert plan.memory_mb(wave, index) <= device.memory_mb * USABLE + 1e-6


@given(gpu_problems())
def test_torch_may_take_at_least_what_was_planned_for(
    problem: tuple[list[Work], list[Device], HostPer],
) -> None:
    members, devices, host_per = problem
    by_name = {work.name: work for work in members}
    plan = make_plan(members, devices, host_per)
    for number in range(len(plan.waves)):
        for host in plan.hosts(number):
            here = [by_name[name] for name in host.members]
            planned = sum(work.memory_mb - work.batch_mb for work in here)
            planned += max(work.batch_mb for work in here)
            step = 1e-4 * devices[host.device].memory_mb
            assert host.memory_fraction * devices[host.device].memory_mb >= planned - 2 * step


@given(gpu_problems())
def test_a_plan_does_not_depend_on_the_order_of_members(
    problem: tuple[list[Work], list[Device], HostPer],
) -> None:
    members, devices, host_per = problem
    assert make_plan(members, devices, host_per) == make_plan(members[::-1], devices, host_per)


@given(works(("cpu",)), st.integers(1, 8))
def test_without_replicas_no_host_ends_later_than_longest_first_allows(
    members: list[Work], num_hosts: int
) -> None:
    members = [replace(work, blocks=1) for work in members]
    plan = make_plan(members, [Device()] * num_hosts)
    longest = max(work.seconds["cpu"] for work in members)
    # Graham 1969: LPT is within 4/3 - 1/(3m) of the best schedule; that is hard to compute, but
    # LPT is also within the mean plus (1 - 1/m) of the last job placed, which is at most the longest.
    bound = lower_bound(members, plan.devices) + (1 - 1 / num_hosts) * longest
    assert plan.seconds <= bound + 1e-9
    assert max(lower_bound(members, plan.devices), 0) <= plan.seconds + 1e-9


def _best_without_replicas(seconds: list[float], num_hosts: int) -> float:
    """Brute force over all assignments."""
    best = float("inf")

    def place(rest: list[float], loads: list[float]) -> None:
        nonlocal best
        if max(loads) >= best:
            return
        if not rest:
            best = max(loads)
            return
        for index in range(num_hosts):
            place(rest[1:], [*loads[:index], loads[index] + rest[0], *loads[index + 1 :]])
            if loads[index] == 0:
                break

    place(sorted(seconds, reverse=True), [0.0] * num_hosts)
    return best


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=8), st.integers(1, 3))
def test_a_schedule_is_within_four_thirds_of_the_best_without_replicas(
    seconds: list[float], num_hosts: int
) -> None:
    members = [Work(f"m{i}", {"cpu": value}) for i, value in enumerate(seconds)]
    plan = make_plan(members, [Device()] * num_hosts)
    assert plan.seconds <= 4 / 3 * _best_without_replicas(seconds, num_hosts) + 1e-9


@given(works(("cpu",)), st.integers(1, 8))
def test_with_replicas_all_hosts_end_together(members: list[Work], num_hosts: int) -> None:
    members = [replace(work, blocks=10_000) for work in members]
    plan = make_plan(members, [Device()] * num_hosts)
    bound = lower_bound(members, plan.devices)
    # What stays uneven is what is not worth a replica: 2 % of a member.
    assert plan.seconds <= 1.01 * bound + 0.04 * max(work.seconds["cpu"] for work in members)


def test_a_slow_member_gets_replicas_and_ends_with_the_others() -> None:
    members = [Work("slow", {"cpu": 30.0}, blocks=100)]
    members += [Work(f"quick-{i}", {"cpu": 3.0}, blocks=100) for i in range(6)]
    plan = make_plan(members, [Device()] * 4)
    assert plan.replicas["slow"] >= 3
    assert plan.seconds == pytest.approx(12.0, rel=0.02)


def test_members_that_find_no_memory_make_another_wave() -> None:
    members = [Work(f"m{i}", {"A100": 1.0}, 20_000) for i in range(3)]
    plan = make_plan(members, [GPU])
    assert [len(wave) for wave in plan.waves] == [1, 1, 1]
    # 2 x 20,000 MB and one context fit where 2 contexts do not.
    assert [
        len(wave) for wave in make_plan(members, [replace(GPU, memory_mb=43_000)], "gpu").waves
    ] == [
        2,
        1,
    ]


def test_members_of_one_process_use_the_memory_of_their_batches_in_turn() -> None:
    members = [Work(f"m{i}", {"A100": 1.0}, 20_000, batch_mb=i * 6_000.0) for i in range(4)]
    together = make_plan(members, [replace(GPU, memory_mb=70_000)], "gpu")
    assert len(together.waves) == 1
    # The weights of all, 20,000 + 14,000 + 8,000 + 2,000 MB, and the largest batch.
    expected_mb = 44_000 + 18_000 + CONTEXT_MB
    assert together.memory_mb(together.waves[0], 0) == pytest.approx(expected_mb)
    # Where each has a process of its own, nobody knows which batches meet.
    apart = make_plan(members, [replace(GPU, memory_mb=90_000)], "member")
    assert apart.memory_mb(apart.waves[0], 0) == pytest.approx(4 * (20_000 + CONTEXT_MB))


def test_a_member_that_fits_on_no_gpu_is_refused_with_the_numbers() -> None:
    with pytest.raises(ClusterError, match=r"'huge' needs 39,000 MB.*38,912 MB usable of 40,960"):
        make_plan([Work("huge", {"A100": 1.0}, 39_000)], [GPU])


def test_a_faster_gpu_gets_more() -> None:
    devices = [Device("A100", 40_960), Device("L4", 24_576)]
    members = [Work(f"m{i}", {"A100": 1.0, "L4": 3.0}, 100, 100) for i in range(8)]
    plan = make_plan(members, devices)
    (wave,) = plan.waves
    parts = [sum(s.fraction for s in wave if s.device == index) for index in range(2)]
    assert parts == pytest.approx([6.0, 2.0], rel=0.02)


def test_one_host_a_gpu_carries_all_of_its_members() -> None:
    members = [Work(f"m{i}", {"A100": 1.0}, 1000) for i in range(4)]
    hosts = make_plan(members, [GPU, GPU], "gpu").hosts(0)
    assert [(len(host.members), host.gpu_share, host.threads) for host in hosts] == [
        (2, 1.0, 4)
    ] * 2


def test_gpus_are_paid_until_the_last_one_ends() -> None:
    plan: Plan = make_plan([Work("m", {"A100": 3600.0}, 1000)], [GPU, GPU])
    assert plan.gpu_hours == pytest.approx(2.0)


def test_training_takes_whole_devices() -> None:
    assert [host.gpu_share for host in whole_devices([GPU, Device()])] == [1.0, 0.0]
