"""What a run is doing: a live table on a terminal, lines elsewhere, and a file in both."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ensemble.errors import ProjectError
from jobs.progress import interrupt
from jobs.progress.record import MemberRecord, ProgressRecord, StageRecord
from jobs.stored_runs.layout import write

if TYPE_CHECKING:
    from cluster.prometheus import RunMetrics

RECORD_EVERY_S = 5.0
# A person reads all of a log, a program only its last record.
LINE_EVERY_S = 30.0


@dataclass
class StageProgress:
    """How far one stage is."""

    name: str
    total: int
    unit: str
    done: int = 0
    images: int = 0
    started: float = field(default_factory=time.perf_counter)
    seconds: float | None = None

    def advance(self, count: int = 1, images: int = 0) -> None:
        """Note work that is done, and how many forward passes it took."""
        self.done += count
        self.images += images

    @property
    def elapsed(self) -> float:
        """Seconds since the stage began, or that it took."""
        return self.seconds if self.seconds is not None else time.perf_counter() - self.started

    @property
    def eta_s(self) -> float | None:
        """Seconds to go at the pace so far; none before anything is done."""
        if not self.done or self.seconds is not None:
            return None
        return self.elapsed / self.done * (self.total - self.done)

    @property
    def images_per_s(self) -> float:
        """Forward passes a second of the clock."""
        return self.images / max(self.elapsed, 1e-9)

    def record(self) -> StageRecord:
        """The same as a value."""
        return StageRecord(
            name=self.name,
            done=self.done,
            total=self.total,
            unit=self.unit,
            images_per_s=round(self.images_per_s, 1),
            eta_s=None if self.eta_s is None else round(self.eta_s, 1),
            seconds=round(self.elapsed, 1),
        )

    def describe(self) -> str:
        """One line."""
        text = f"{self.name}: {self.done}/{self.total} {self.unit}"
        if self.images:
            text += f", {self.images_per_s:.0f} images/s"
        if self.eta_s:
            text += f", ETA {self.eta_s:.0f} s"
        return f"{text}, {self.elapsed:.1f} s"


@dataclass
class MemberProgress:
    """What a member is at, and what it has computed."""

    state: str = "waiting"
    detail: str = ""
    images: int = 0
    compute_s: float = 0.0

    @property
    def images_per_s(self) -> float:
        """Forward passes a second while it computed."""
        return self.images / self.compute_s if self.compute_s else 0.0


class Progress:
    """Stages and the state of each member. Use as a context manager.

    Args:
        console: Where a person looks.
        run: Name of the run.
        members: Their names.
        json_log: Print records as JSON, as the log of a job has them, and nothing that moves.
    """

    def __init__(
        self, console: Console, run: str, members: list[str], json_log: bool = False
    ) -> None:
        self._console, self._run, self._json_log = console, run, json_log
        self._is_live = console.is_terminal and not json_log
        self._file: Path | None = None
        self._members = {name: MemberProgress() for name in members}
        self._retries: Callable[[], Mapping[str, int]] = dict
        self._metrics: RunMetrics | None = None
        self._lock = threading.Lock()
        self.stages: list[StageProgress] = []
        self._started = self._said = time.perf_counter()
        self._stop = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)
        self._live = Live(self, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        if self._is_live:
            self._live.start()
        self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        self._stop.set()
        self._ticker.join()
        if self._is_live:
            self._live.stop()
        if kind is None:
            self._publish("finished")
        elif issubclass(kind, KeyboardInterrupt):
            self._publish("stopped")
        else:
            known = isinstance(error, ProjectError)
            self._publish("failed", str(error) if known else f"{kind.__name__}: {error}")

    def keep(self, file: Path) -> None:
        """Keep the record in a file from now on: the run's folder is ours."""
        self._file = file
        self._publish("running")

    @contextmanager
    def measured(
        self, metrics: "RunMetrics", retries: Callable[[], Mapping[str, int]]
    ) -> Iterator[None]:
        """Publish to Prometheus too, and count retries by member, while a Ray session is open."""
        self._metrics, self._retries = metrics, retries
        try:
            yield
        finally:
            self._update_metrics()
            last = dict(retries())
            with self._lock:  # the ticker may be at it
                self._metrics, self._retries = None, lambda: last

    @contextmanager
    def stage(self, name: str, total: int = 1, unit: str = "done") -> Iterator[StageProgress]:
        """Show a stage while it runs; its last line stays."""
        interrupt.check()
        stage = StageProgress(name, total, unit)
        self.stages.append(stage)
        yield stage
        if unit == "done" and not stage.done:
            stage.advance()
        stage.seconds = stage.elapsed
        self.say(stage.describe())

    def member(
        self, name: str, state: str, detail: str = "", images: int = 0, compute_s: float = 0.0
    ) -> None:
        """Note what a member is at, and the forward passes and seconds that it has just done."""
        interrupt.check()
        member = self._members.setdefault(name, MemberProgress())
        member.state, member.detail = state, detail
        member.images += images
        member.compute_s += compute_s

    def record(
        self, state: Literal["running", "finished", "stopped", "failed"], message: str = ""
    ) -> ProgressRecord:
        """How things stand, as one value."""
        retries = dict(self._retries())
        return ProgressRecord(
            run=self._run,
            state=state,
            at=datetime.now(UTC),
            seconds=round(time.perf_counter() - self._started, 1),
            stages=tuple(stage.record() for stage in self.stages if stage.seconds is None),
            members={
                name: MemberRecord(
                    state=member.state,
                    images=member.images,
                    images_per_s=round(member.images_per_s, 1),
                    retries=retries.get(name, 0),
                )
                for name, member in list(self._members.items())
            },
            retries=sum(retries.values()),
            message=message,
        )

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._console.print(Text(line), soft_wrap=True)

    def _tick(self) -> None:
        while not self._stop.wait(RECORD_EVERY_S):
            self._publish("running")
            self._update_metrics()
            if not self._json_log and not self._is_live:
                self._say_now_and_then()

    def _say_now_and_then(self) -> None:
        now = time.perf_counter()
        if now - self._said >= LINE_EVERY_S:
            self._said = now
            for stage in [stage for stage in self.stages if stage.seconds is None and stage.done]:
                self.say(stage.describe())

    def _publish(
        self, state: Literal["running", "finished", "stopped", "failed"], message: str = ""
    ) -> None:
        record = self.record(state, message)
        text = record.model_dump_json()
        try:
            if self._file is not None:
                write(self._file, f"{text}\n")
        except OSError as error:
            self.say(f"cannot write {self._file}: {error.strerror}")
        if self._json_log and (state != "running" or record.stages):
            self.say(text)

    def _update_metrics(self) -> None:
        members = dict(self._members)
        with self._lock:
            if self._metrics is not None:
                self._metrics.update(
                    {name: member.images for name, member in members.items()},
                    {name: member.images_per_s for name, member in members.items()},
                    self._retries(),
                )

    def __rich__(self) -> Group:
        running = Table(box=None, pad_edge=False)
        for column in ("stage", "", "done", "images/s", "ETA", "time"):
            running.add_column(column)
        for stage in self.stages:
            if stage.seconds is None:
                running.add_row(
                    stage.name,
                    ProgressBar(total=stage.total, completed=stage.done, width=24),
                    f"{stage.done}/{stage.total} {stage.unit}",
                    f"{stage.images_per_s:.0f}" if stage.images else "",
                    f"{stage.eta_s:.0f} s" if stage.eta_s else "",
                    f"{stage.elapsed:.1f} s",
                )
        members = Table(box=None, pad_edge=False)
        members.add_column("member")
        members.add_column("state")
        for name, member in list(self._members.items()):
            members.add_row(name, Text(f"{member.state} {member.detail}"))
        return Group(running, Text(), members)
