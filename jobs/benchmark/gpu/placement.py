"""Part 4: the pool on one GPU as the plan places it, beside its bare times, and its memory beside the plan."""

import gc
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from cluster.scheduling.packing import make_plan
from cluster.scheduling.placement import Device, Plan, Work, whole_devices
from ensemble.files import sha256_of
from ensemble.inference.costs import MemberCost
from ensemble.inference.device import device_kind
from ensemble.inference.predict import BATCH_IMAGES
from ensemble.members.member import Member, in_precision
from ensemble.members.settings import MemberConfig
from ensemble.members.source_settings import (
    CheckpointSource,
    TimmSource,
    TorchvisionSource,
)
from jobs.benchmark.gpu.material import (
    input_side,
    make_member,
    make_network,
    save_network,
)
from jobs.benchmark.gpu.recorder import Recorder
from jobs.benchmark.gpu.settings import GpuBenchmarkConfig
from jobs.benchmark.gpu.timed_hosts import HostProcess, HostRun, host_processes, write_shards
from jobs.benchmark.report import Bar
from jobs.pools import load_pool

SPEED_BAR = 0.85
MEMORY_BARS = (0.85, 1.15)
POOL = "imagenet13"

_MB = 1 << 20


def measure(config: GpuBenchmarkConfig, record: Recorder) -> None:
    """Measure each member alone, then all of them in both ways that a plan can place them."""
    with tempfile.TemporaryDirectory(prefix="ens-gpu-") as name:
        folder = Path(name)
        record.say("writing the weights of the pool")
        members = _write_pool(config, folder)
        shards = write_shards(config, folder)
        _measure_pool(config, members, shards, record)


def pool_architectures(config: GpuBenchmarkConfig) -> list[tuple[str, str]]:
    """List the name and the architecture of each member of the pool."""
    if config.pool:
        return [(f"{number}-{name}", name) for number, name in enumerate(config.pool)]
    return [(member.name, _architecture(member)) for member in load_pool(POOL)]


def _architecture(member: MemberConfig) -> str:
    match member.source:
        case TorchvisionSource(name=name):
            return f"torchvision/{name}"
        case TimmSource(name=name):
            return f"timm/{name.partition('.')[0]}"
        case CheckpointSource(architecture=str(architecture)):
            return architecture
    raise TypeError(f"{member.source!r} names no architecture.")


def _write_pool(config: GpuBenchmarkConfig, folder: Path) -> list[Member]:
    """Write a checkpoint with random weights for each member of the pool."""
    device, members = torch.device(config.device), []
    for seed, (name, architecture) in enumerate(pool_architectures(config)):
        size = input_side(architecture, config.input_size)
        member = make_member(architecture, size, name=name, path=folder / f"{name}.safetensors")
        network = make_network(architecture, size, device, seed)
        save_network(network.cpu(), member, member.checkpoint)
        member = replace(member, weights_sha256=sha256_of(member.checkpoint))
        members.append(in_precision(member, "bfloat16"))
    return members


def _measure_pool(
    config: GpuBenchmarkConfig,
    members: Sequence[Member],
    shards: Sequence[Path],
    record: Recorder,
) -> None:
    """Measure members alone, plan with that, and run both plans."""
    pool = _Pool(config, members, shards, record)
    kind, cpus = f"gpu {device_kind(torch.device(config.device))}", (os.cpu_count() or 1) / 2
    used_before = _gpu_used_mb(config)
    # As `ensemble run` measures: one process without members on the whole GPU.
    with host_processes(config, whole_devices([Device(kind, cpus=cpus)]), shards) as (process,):
        record.say("measuring each member alone, and its bare network")
        costs: dict[str, MemberCost] = {m.name: process.do("measure", m) for m in members}
        bare = {m.name: process.do("bare", m, config.shards) for m in members}
        record.figure("bare images/s", {n: pool.images / took for n, took in bare.items()})
        record.figure("memory_mb", {name: cost.memory_mb for name, cost in costs.items()})
        record.figure("batch_mb", {name: cost.batch_mb for name, cost in costs.items()})
        # Shares are of a GPU; on a CPU its memory is made up, so that the same plan comes out.
        memory = max(cost.device_memory_mb or 1e6 for cost in costs.values())
        gpu = Device(kind, memory, cpus)
        works = [
            Work(
                name,
                {kind: pool.images / cost.images_per_s},
                cost.memory_mb,
                config.shards,
                cost.batch_mb,
            )
            for name, cost in costs.items()
        ]
        plan = make_plan(works, [gpu], "gpu")
        if len(plan.waves) > 1:
            record.leave_out(f"one process: its members need {len(plan.waves)} waves on this GPU.")
        elif record.has_time(f"{len(members)} members, one process", 15):
            # The process that measured has all networks already, which take long to load.
            wave = pool.run_wave(plan, 0, [process], used_before)
            pool.judge("one process", plan, [wave], sum(bare.values()))
    if record.has_time(f"{len(members)} members, a process each", 35):
        plan, waves = make_plan(works, [gpu], "member"), []
        for number in range(len(plan.waves)):
            used_before = _gpu_used_mb(config)
            with host_processes(config, plan.hosts(number), shards) as processes:
                waves.append(pool.run_wave(plan, number, processes, used_before))
        pool.judge("a process each", plan, waves, sum(bare.values()))


@dataclass(frozen=True)
class _Wave:
    """What was measured of a wave.

    Attributes:
        seconds: Wall time of the wave, all weights loaded and everything warm.
        used_mb: Memory of the GPU that its processes held when they were done, in MB.
        planned_mb: Memory that the plan says, in MB.
        reserved_mb: Peak of the memory that each process reserved, in MB.
    """

    seconds: float
    used_mb: float
    planned_mb: float
    reserved_mb: tuple[float, ...]


@dataclass(frozen=True)
class _Pool:
    """The members and the images that plans are run with."""

    config: GpuBenchmarkConfig
    members: Sequence[Member]
    shards: Sequence[Path]
    record: Recorder

    @property
    def images(self) -> int:
        """Number of images that each member predicts."""
        return len(self.shards) * BATCH_IMAGES

    def run_wave(
        self, plan: Plan, number: int, processes: Sequence[HostProcess], used_before: float
    ) -> _Wave:
        """Predict everything with the members of a wave; the processes are those of the plan, in order."""
        by_name = {member.name: member for member in self.members}
        carried = [[by_name[name] for name in host.members] for host in plan.hosts(number)]
        for verb in ("warm", "run"):
            started = time.perf_counter()
            for process, its in zip(processes, carried, strict=True):
                process.begin(verb, its)
            runs: list[HostRun] = [process.end() for process in processes]
            seconds = time.perf_counter() - started
        return _Wave(
            seconds,
            max(run.gpu_used_mb for run in runs) - used_before,
            plan.memory_mb(plan.waves[number], 0),
            tuple(run.reserved_mb for run in runs),
        )

    def judge(self, mode: str, plan: Plan, waves: Sequence[_Wave], bare_s: float) -> None:
        """Judge speed and memory of a plan."""
        record, what = self.record, f"{len(self.members)} members, {mode}"
        seconds = sum(wave.seconds for wave in waves)
        record.figure(
            what,
            {
                "planned_s": plan.seconds,
                "seconds": seconds,
                "bare_s": bare_s,
                "images_per_s": self.images / seconds,
                "waves": [asdict(wave) for wave in waves],
            },
        )
        ratio = bare_s / seconds
        record.say(f"{what}: {self.images / seconds:,.1f} images/s, {ratio:.3f} of the bare sum")
        name = f"{what}: images/s, x the sum of bare times"
        record.judge(Bar(name, ratio, ">=", SPEED_BAR), "times")
        if self.config.device == "cpu":
            record.leave_out(f"{what}: memory: a CPU's is not planned.")
            return
        ratios = [wave.used_mb / wave.planned_mb for wave in waves]
        low, high = MEMORY_BARS
        name = f"{what}: memory in use, x the plan's"
        record.judge(Bar(name, min(ratios), ">=", low), "answers")
        record.judge(Bar(name, max(ratios), "<=", high), "answers")


def _gpu_used_mb(config: GpuBenchmarkConfig) -> float:
    """Return the memory of the GPU that is in use, by this process and others, in MB."""
    if config.device != "cuda":
        return 0.0
    gc.collect()
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    return (total - free) / _MB
