"""Members of fixed cost, and how plans for them work out: on a virtual clock, and with real processes."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.pool.pool import Pool, open_pool
from cluster.pool.synthetic_host import SyntheticHost
from cluster.scheduling.packing import lower_bound, make_plan
from cluster.scheduling.placement import Device, Plan, Work
from cluster.scheduling.simulate import simulate
from cluster.scheduling.work_queue import Call
from cluster.settings import ClusterConfig
from ensemble.images.open import open_source
from ensemble.images.settings import DigitsConfig
from ensemble.images.shard import ShardSpec, plan_shards
from ensemble.inference.costs import CostCache
from ensemble.members.member import Member
from ensemble.members.settings import Preprocessing
from ensemble.views.settings import CenterView
from jobs.benchmark.process_cpu import cpu_seconds, cpu_seconds_by_pid, machine_seconds
from jobs.benchmark.report import Begin

# What 13 members cost an image, in ms: from small to large, as pools are.
COSTS_MS = (0.4, 0.6, 0.9, 1.1, 1.5, 1.8, 2.0, 2.6, 3.5, 4.1, 5.0, 7.5, 11.0)
# Rounds of arithmetic on the machine that this was written on; elsewhere their time is measured.
ROUNDS_PER_MS = 50
SHARD_BYTES = 128 * 224 * 224 * 3


@dataclass(frozen=True)
class Outcome:
    """A plan, and what happened when it was carried out.

    Attributes:
        hosts: Number of hosts.
        planned_s: Seconds that the plan said.
        lower_bound_s: Seconds that no schedule of the same work can beat.
        seconds: Seconds that it took.
        outside: Share of the machine's cores that other programs took meanwhile.
    """

    hosts: int
    planned_s: float
    lower_bound_s: float
    seconds: float
    outside: float = 0.0

    @property
    def efficiency(self) -> float:
        """1 if every host was busy until the end."""
        return self.lower_bound_s / self.seconds

    @property
    def planned_over_seconds(self) -> float:
        """1 if it took what was planned."""
        return self.planned_s / self.seconds


def synthetic_member(number: int, rounds: int) -> Member:
    """Make a member that costs a fixed amount of arithmetic an image."""
    return Member(
        name=f"m{number}",
        architecture=f"synthetic-{rounds}",
        classes=tuple(range(10)),
        checkpoint=Path("none"),
        weights_sha256=f"{number:064x}",
        head="none",
        parameters=rounds,
        preprocessing=Preprocessing(size=8, mean=(0, 0, 0), std=(1, 1, 1)),
        views=CenterView(),
        data_sha256="synthetic",
    )


def on_a_virtual_clock(num_hosts: int, num_shards: int) -> Outcome:
    """Carry out a plan with the pool's own queue and window, and hosts that only take virtual time."""
    specs = plan_shards([str(number) for number in range(128 * num_shards)], 128)
    members = [synthetic_member(number, 1) for number in range(len(COSTS_MS))]
    block_s = {m.name: {"cpu": 0.128 * cost} for m, cost in zip(members, COSTS_MS, strict=True)}
    works = [
        Work(name, {"cpu": len(specs) * of["cpu"]}, blocks=len(specs))
        for name, of in block_s.items()
    ]
    pairs = [(member, spec) for spec in specs for member in members]
    calls = [Call("predict", m, (spec,), order) for order, (m, spec) in enumerate(pairs)]
    devices = [Device()] * num_hosts
    plan = make_plan(works, devices)
    seconds = simulate(plan, calls, block_s, SHARD_BYTES, ClusterConfig().shard_window_mb)
    return Outcome(num_hosts, plan.seconds, lower_bound(works, devices), seconds)


def with_real_processes(
    num_hosts: int, num_images: int, repeats: int, folder: Path, begin: Begin
) -> tuple[list[Outcome], list[Outcome]]:
    """Carry out plans with hosts that compute, with costs that are measured anew each time.

    Returns:
        Outcomes by the CPU seconds of the busiest host, which other programs hardly change; and by the
        wall clock, which they change.
    """
    ids = open_source(DigitsConfig()).index().image_ids[:num_images].tolist()
    members = [synthetic_member(n, int(cost * ROUNDS_PER_MS)) for n, cost in enumerate(COSTS_MS)]
    settings = ClusterConfig(device="cpu", hosts=num_hosts, shard_images=64, object_store_mb=128)
    work = [(spec, members) for spec in plan_shards(ids, settings.shard_images)]
    by_cpu, by_wall = [], []
    for number in range(repeats):
        begin(f"processes, {num_hosts} of them, round {number + 1} of {repeats}")
        cache = CostCache(folder / f"figures-{num_hosts}-{number}")
        with open_pool(settings, DigitsConfig(), cache, SyntheticHost) as pool:
            cpu, wall = _predict(pool, work)
        by_cpu.append(cpu)
        by_wall.append(wall)
    return by_cpu, by_wall


@dataclass(frozen=True)
class _Clocks:
    """Seconds that were spent until a moment."""

    wall_s: float
    ours_s: float
    all_s: float
    by_host: dict[int, float]

    @staticmethod
    def read() -> "_Clocks":
        by_host = cpu_seconds_by_pid(f"ray::{SyntheticHost.__name__}")
        return _Clocks(time.perf_counter(), cpu_seconds(), machine_seconds(), by_host)


def _predict(
    pool: Pool, work: Sequence[tuple[ShardSpec, Sequence[Member]]]
) -> tuple[Outcome, Outcome]:
    begun: list[tuple[Plan, _Clocks]] = []
    for _ in pool.predict(work, lambda placement: begun.append((placement, _Clocks.read()))):
        pass
    end = _Clocks.read()
    ((placement, start),) = begun
    spent = [seconds - start.by_host[pid] for pid, seconds in end.by_host.items()]
    wall_s, cores = end.wall_s - start.wall_s, os.cpu_count() or 1
    outside = max(0.0, (end.all_s - start.all_s) - (end.ours_s - start.ours_s)) / (cores * wall_s)
    bound = sum(spent) / len(spent)
    return (
        Outcome(len(spent), placement.seconds, bound, max(spent), outside),
        Outcome(len(spent), placement.seconds, bound, wall_s, outside),
    )
