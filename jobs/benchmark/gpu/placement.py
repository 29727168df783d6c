"""Part 4: the pool on one GPU as the plan places it, beside its bare times, and its memory beside the plan."""

import gc
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cluster.pool.host import Host, HostSettings
from cluster.scheduling.packing import make_plan
from cluster.scheduling.placement import Device, HostPlan, Plan, Work, whole_devices
from ensemble.files import sha256_of
from ensemble.images.shard import ImageShard
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
from jobs.benchmark.gpu.flow import start_context
from jobs.benchmark.gpu.material import (
    input_side,
    make_member,
    make_network,
    make_shard,
    save_network,
)
from jobs.benchmark.gpu.recorder import Recorder
from jobs.benchmark.gpu.settings import GpuBenchmarkConfig
from jobs.benchmark.report import Bar
from jobs.pools import load_pool

SPEED_BAR = 0.85
MEMORY_BARS = (0.85, 1.15)
POOL = "imagenet13"

_MB = 1 << 20


@dataclass(frozen=True)
class HostRun:
    """What one process did of a round.

    Attributes:
        seconds: Wall time of its predictions.
        reserved_mb: Peak of the memory that its torch reserved, in MB; 0 on a CPU.
        gpu_used_mb: Memory of the whole GPU in use when it was done, in MB; 0 on a CPU.
    """

    seconds: float
    reserved_mb: float
    gpu_used_mb: float


class TimedHost(Host):
    """A host that also times bare networks and whole rounds."""

    def time_bare(self, member: Member, batches: int) -> float:
        """Time a member's network on tensors that are on the device already, in its precision and layout."""
        network, size = self._load(member, None), member.preprocessing.size
        layout = torch.channels_last if self._settings.channels_last else torch.contiguous_format
        batch = torch.rand(BATCH_IMAGES, 3, size, size, device=self._device)
        batch = batch.to(getattr(torch, member.precision), memory_format=layout)
        with torch.inference_mode():
            network(batch)[0, 0].item()
            started = time.perf_counter()
            for _ in range(batches):
                logits = network(batch)
            # The last number is there when everything before it is.
            logits[0, 0].item()
        return time.perf_counter() - started

    def run_round(self, members: Sequence[Member], shards: Sequence[ImageShard]) -> HostRun:
        """Predict all shards with all members, shard by shard, as the dispatcher would have it."""
        is_on_gpu = self._device.type == "cuda"
        if is_on_gpu:
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        for shard in shards:
            for member in members:
                self.predict(member, None, shard)
        seconds = time.perf_counter() - started
        if not is_on_gpu:
            return HostRun(seconds, 0.0, 0.0)
        free, total = torch.cuda.mem_get_info()
        return HostRun(seconds, torch.cuda.max_memory_reserved() / _MB, (total - free) / _MB)


def measure(config: GpuBenchmarkConfig, record: Recorder) -> None:
    """Measure each member alone, then all of them in both ways that a plan can place them."""
    with tempfile.TemporaryDirectory(prefix="ens-gpu-") as name:
        folder = Path(name)
        record.say("writing the weights of the pool")
        members = _write_pool(config, folder)
        shards = _write_shards(config, folder)
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


def _write_shards(config: GpuBenchmarkConfig, folder: Path) -> list[Path]:
    """Write decoded photographs, which processes map without a copy, as they do out of an object store."""
    paths = []
    for number in range(config.shards):
        shard = make_shard(BATCH_IMAGES, config.width, config.height, seed=number)
        paths.append(folder / f"shard-{number}.npy")
        np.save(paths[-1], shard.pixels.reshape(len(shard), config.height, config.width, 3))
    return paths


def _read_shard(path: Path) -> ImageShard:
    pixels = np.load(path, mmap_mode="r")
    count, height, width, _ = pixels.shape
    return ImageShard(
        image_ids=np.array([f"{path.stem}-{number:06d}" for number in range(count)]),
        pixels=pixels.reshape(-1),
        heights=np.full(count, height),
        widths=np.full(count, width),
    )


class _Process:
    """A process with a `TimedHost`, and the pipe to it.

    Args:
        context: How processes start.
        settings: Settings of the host.
        shards: Files of all shards.
    """

    def __init__(self, context: Any, settings: HostSettings, shards: Sequence[Path]) -> None:
        self._pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, settings, shards), daemon=True)
        self.process.start()
        theirs.close()

    def begin(self, verb: str, *arguments: object) -> None:
        """Have the host do something, without waiting for it."""
        self._pipe.send((verb, arguments))

    def end(self) -> Any:
        """Wait for what was begun, and return its value.

        Raises:
            EOFError: The process failed; its error stands on the terminal.
        """
        return self._pipe.recv()

    def do(self, verb: str, *arguments: object) -> Any:
        """Have the host do something, and wait for it."""
        self.begin(verb, *arguments)
        return self.end()

    def close(self) -> None:
        """End the process, which gives back its memory."""
        self._pipe.close()
        self.process.join()


def _serve(pipe: Connection, settings: HostSettings, shard_files: Sequence[Path]) -> None:
    """Do what comes through the pipe until it is closed; the process of a host begins here."""
    host = TimedHost(settings)
    shards = [_read_shard(path) for path in shard_files]
    while True:
        try:
            verb, arguments = pipe.recv()
        except EOFError:
            return
        match verb:
            case "measure":
                pipe.send(host.measure(arguments[0], None, shards[0])[1])
            case "bare":
                pipe.send(host.time_bare(*arguments))
            case "warm":
                # Gives back what measuring reserved, and no other round needs.
                host.keep([member.column for member in arguments[0]])
                pipe.send(host.run_round(arguments[0], shards[:1]))
            case "run":
                pipe.send(host.run_round(arguments[0], shards))


@contextmanager
def _processes(
    config: GpuBenchmarkConfig, plans: Sequence[HostPlan], shards: Sequence[Path]
) -> Iterator[list[_Process]]:
    context = start_context(config.device)
    processes = [
        _Process(
            context,
            HostSettings(
                config.device,
                plan.threads,
                plan.memory_fraction,
                channels_last=True,
            ),
            shards,
        )
        for plan in plans
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.close()


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
    with _processes(config, whole_devices([Device(kind, cpus=cpus)]), shards) as (process,):
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
            with _processes(config, plan.hosts(number), shards) as processes:
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
        self, plan: Plan, number: int, processes: Sequence[_Process], used_before: float
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
