"""Host processes on one device that are timed, and the decoded shards that they map."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cluster.pool.host import Host, HostSettings
from cluster.scheduling.placement import HostPlan
from ensemble.images.shard import ImageShard
from ensemble.inference.predict import BATCH_IMAGES
from ensemble.members.member import Member
from jobs.benchmark.gpu.flow import start_context
from jobs.benchmark.gpu.material import make_shard
from jobs.benchmark.gpu.settings import GpuBenchmarkConfig

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


def write_shards(config: GpuBenchmarkConfig, folder: Path) -> list[Path]:
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


class HostProcess:
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
                pipe.send(host.measure([arguments[0]], None, shards[0])[1])
            case "bare":
                pipe.send(host.time_bare(*arguments))
            case "warm":
                # Gives back what measuring reserved, and no other round needs.
                host.keep([member.column for member in arguments[0]])
                pipe.send(host.run_round(arguments[0], shards[:1]))
            case "run":
                pipe.send(host.run_round(arguments[0], shards))


@contextmanager
def host_processes(
    config: GpuBenchmarkConfig, plans: Sequence[HostPlan], shards: Sequence[Path]
) -> Iterator[list[HostProcess]]:
    """Start a process for each host of a plan, and end them in any case.

    Args:
        config: Settings of the benchmark.
        plans: The hosts.
        shards: Files of all shards.
    """
    context = start_context(config.device)
    processes = [
        HostProcess(
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
