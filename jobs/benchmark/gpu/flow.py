"""The parts one after the other, each in a process of its own, and the document after every entry.

A process of its own: a part that fails, hangs or runs out of memory takes nothing with it, and the next
one finds the GPU's memory free.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

from rich.console import Console

from ensemble.config import load_words
from ensemble.errors import ConfigError, ProjectError
from jobs.benchmark.gpu.recorder import Entry, Recorder
from jobs.benchmark.gpu.settings import SECONDS_OF_PART, GpuBenchmarkConfig, PartName
from jobs.benchmark.report import (
    Bar,
    Begin,
    BenchmarkReport,
    finish,
    step_printer,
    write_document,
)
from jobs.cli.app import EXIT_FAILED

# A part that is past its time is given this long to end its step, and one that is done to close everything.
_GRACE_S, _CLOSING_S = 5.0, 30.0


def benchmark_gpu(
    words: Sequence[str], console: Console, is_smoke: bool = False
) -> BenchmarkReport:
    """Measure the main path on a GPU, print the figures, and write them to a file after each step.

    Raises:
        ConfigError: A setting is unknown or has a wrong value, or the file cannot be written.
    """
    start = GpuBenchmarkConfig.smoke_size if is_smoke else {}
    config = load_words(GpuBenchmarkConfig, words, start)
    _check_device(config)
    return finish(measure(config, step_printer(console)), config.out, console)


def _check_device(config: GpuBenchmarkConfig) -> None:
    """Refuse to measure a GPU that is not there, before every part fails for itself."""
    if config.device == "cpu":
        return
    import torch

    if not torch.cuda.is_available():
        raise ConfigError(
            "device is cuda, and torch sees no GPU. Expected one that `nvidia-smi` lists, and a torch that "
            "was built for CUDA; `ensemble benchmark gpu --smoke` runs the same code on a CPU."
        )


def measure(config: GpuBenchmarkConfig, begin: Begin) -> BenchmarkReport:
    """Measure each part within its time.

    Raises:
        ConfigError: The file of the figures cannot be written.
    """
    record = _Record(config, begin)
    total = sum(SECONDS_OF_PART[part] for part in config.parts)
    deadline = time.monotonic()
    for part in config.parts:
        # Time that a part leaves goes to the next one, because deadlines count from the start.
        deadline += config.limit_s * SECONDS_OF_PART[part] / total
        begin(f"{part}: {max(deadline - time.monotonic(), 0):.0f} s at most")
        _run_part(part, config, deadline, record)
    failed = Bar("parts that failed or were ended", len(record.failed), "<=", 0)
    record.bars.append(failed)
    return record.report()


@dataclass
class _Record:
    """All entries so far."""

    config: GpuBenchmarkConfig
    begin: Begin
    bars: list[Bar] = field(default_factory=list)
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def report(self) -> BenchmarkReport:
        return BenchmarkReport(
            self.config.model_dump(mode="json"),
            tuple(self.bars),
            self.figures,
            tuple(self.left_out),
            self.machine,
        )

    def add(self, part: str, entry: Entry) -> None:
        match entry.kind:
            case "line":
                self.begin(f"{part}: {entry.value}")
                return
            case "bar":
                self.bars.append(entry.value)
            case "figure":
                self.figures.setdefault(part, {})[entry.key] = entry.value
            case "machine":
                self.machine[entry.key] = entry.value
            case "left_out":
                self.left_out.append(f"{part}: {entry.value}")
        write_document(self.report(), self.config.out)

    def fail(self, part: str, reason: str) -> None:
        self.failed.append(part)
        self.left_out.append(f"{part}: {reason}")
        write_document(self.report(), self.config.out)


def _run_part(part: PartName, config: GpuBenchmarkConfig, deadline: float, record: _Record) -> None:
    """Run a part in a process of its own, until it ends or its time is over."""
    context = start_context(config.device)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(part, config, deadline, sender))
    process.start()
    sender.close()
    is_late = False
    try:
        while True:
            left = deadline + _GRACE_S - time.monotonic()
            is_late = left <= 0 or not receiver.poll(left)
            if is_late:
                break
            try:
                entry = receiver.recv()
            except EOFError:
                break
            record.add(part, entry)
        if not is_late:
            process.join(_CLOSING_S)
    finally:
        # Whatever happened here, as Ctrl-C: nothing may stay behind on the GPU.
        _end(process)
    if is_late:
        record.fail(part, "its time was over, and it was ended; what it had measured is kept.")
    elif process.exitcode:
        record.fail(part, f"it ended with exit code {process.exitcode}; its error stands above.")


def _end(process: Any) -> None:
    """End a part that has not ended, with the processes that it started."""
    if process.is_alive():
        with suppress(ProcessLookupError):  # it may not have a group of its own yet
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
    process.join()


def start_context(device: str) -> Any:
    """Return how processes start: anew for CUDA, which survives no fork; else from one with torch."""
    if device == "cuda":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torchvision"])
    return context


def _work(part: PartName, config: GpuBenchmarkConfig, deadline: float, sender: Connection) -> None:
    """Measure one part; the process of a part begins here."""
    os.setpgid(0, 0)  # so that it can be ended with the processes that it starts
    recorder = Recorder(sender.send, deadline, judges_times=config.device == "cuda")
    try:
        import_module(f"jobs.benchmark.gpu.{part}").measure(config, recorder)
    except ProjectError as error:
        # A mistake in the settings, as an unknown network, that needs no traceback.
        recorder.leave_out(f"it failed: {type(error).__name__}: {error}")
        sys.exit(EXIT_FAILED)
