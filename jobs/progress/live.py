"""What a command is doing: a live table on a terminal, lines in a log, and for a run a file too."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ensemble.errors import ProjectError
from ensemble.files import overwrite, write_atomic
from ensemble.table.lease_holder import identify_process
from jobs.console import open_console
from jobs.progress import interrupt
from jobs.progress.record import (
    MemberRecord,
    ProgressRecord,
    format_for_file,
)
from jobs.progress.stage import WHOLE, MemberProgress, StageProgress

if TYPE_CHECKING:
    from cluster.prometheus import RunMetrics

RECORD_EVERY_S = 5.0
# A person reads all of a log, a program only its last record.
LINE_EVERY_S = 30.0


class Progress:
    """Stages and the state of each member. Use as a context manager.

    Args:
        console: Where progress is printed.
        run: Name of the run, or of the verb.
        members: Names of the members that the run will report on.
        json_log: Print records as JSON, as the log of a job has them, and nothing that moves.
        quiet_s: A stage that ends within so many seconds leaves no line; in a log the first line of
            a stage under way comes after as long.
    """

    def __init__(
        self,
        console: Console,
        run: str,
        members: Sequence[str],
        json_log: bool = False,
        quiet_s: float = 0.0,
    ) -> None:
        self._console, self._run, self._json_log = console, run, json_log
        self._quiet_s = quiet_s
        self._is_live = console.is_terminal and not json_log
        self._file: Path | None = None
        self._members = {name: MemberProgress() for name in members}
        self._retries: Callable[[], Mapping[str, int]] = dict
        self._metrics: RunMetrics | None = None
        self._lock = threading.Lock()
        self.stages: list[StageProgress] = []
        self._started = time.perf_counter()
        self._said = self._started - (LINE_EVERY_S - quiet_s if quiet_s else 0)
        self._stop = threading.Event()
        self._process = identify_process(os.getpid())
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
        """Keep the record in a file from now on, because the run's folder now belongs to this run."""
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
    def stage(self, name: str, total: int = 1, unit: str = WHOLE) -> Iterator[StageProgress]:
        """Show a stage while it runs; its last line stays."""
        interrupt.check()
        stage = StageProgress(name, total, unit)
        self.stages.append(stage)
        yield stage
        if not stage.is_counted and not stage.done:
            stage.advance()
        stage.seconds = stage.elapsed
        if stage.seconds >= self._quiet_s:
            self.say(stage.describe())

    def member(
        self, name: str, state: str, detail: str = "", images: int = 0, compute_s: float = 0.0
    ) -> None:
        """Note the state of a member, and the forward passes and seconds that it has just done."""
        interrupt.check()
        member = self._members.setdefault(name, MemberProgress())
        member.state, member.detail = state, detail
        member.images += images
        member.compute_s += compute_s

    def record(
        self, state: Literal["running", "finished", "stopped", "failed"], message: str = ""
    ) -> ProgressRecord:
        """Give the state of the run at this moment as one value."""
        retries = dict(self._retries())
        self._look()
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
                    detail=member.detail,
                )
                for name, member in list(self._members.items())
            },
            retries=sum(retries.values()),
            message=message,
            pid=os.getpid(),
            process=self._process,
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

    def _running(self) -> list[StageProgress]:
        return [stage for stage in self.stages if stage.seconds is None]

    def _look(self) -> None:
        for stage in self._running():
            for name, detail in stage.look().items():
                self._members[name].detail = detail

    def _say_now_and_then(self) -> None:
        now = time.perf_counter()
        if now - self._said >= LINE_EVERY_S:
            self._said = now
            for stage in self._running():
                parts = (f"{name} {detail}" for name, detail in stage.look().items())
                self.say("; ".join((f"{stage.describe()} so far", *parts)))

    def _publish(
        self, state: Literal["running", "finished", "stopped", "failed"], message: str = ""
    ) -> None:
        record = self.record(state, message)
        if self._file is not None:
            self._write(self._file, record)
        if self._json_log and (state != "running" or record.stages):
            self.say(record.model_dump_json())

    def _write(self, file: Path, record: ProgressRecord) -> None:
        try:
            write_atomic(file, format_for_file(record))
        except OSError as error:
            self.say(f"cannot write {file}: {error.strerror}")
            if record.state != "running":
                self._write_over(file, record)

    def _write_over(self, file: Path, record: ProgressRecord) -> None:
        """Say how the run ended where there is no room for a file: in the place of the last record."""
        short = record.model_copy(update={"stages": (), "members": {}})
        for each in (record, short, short.model_copy(update={"message": ""})):
            try:
                overwrite(file, format_for_file(each).encode())
            except OSError:
                continue  # the next is shorter; that the first was lost was said
            return

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
                    f"{stage.done}/{stage.total} {stage.unit}" if stage.is_counted else "",
                    f"{stage.images_per_s:.0f}" if stage.images else "",
                    f"{stage.eta_s:.0f} s" if stage.eta_s else "",
                    f"{stage.elapsed:.1f} s",
                )
        if not self._members:
            return Group(running)
        members = Table(box=None, pad_edge=False)
        members.add_column("member")
        members.add_column("state")
        for name, member in list(self._members.items()):
            members.add_row(name, Text(f"{member.state} {member.detail}"))
        return Group(running, Text(), members)


@contextmanager
def working(verb: str, task: str, total: int = 1, unit: str = WHOLE) -> Iterator[StageProgress]:
    """Tell on stderr what a verb is doing while its one stage runs.

    Results stay alone on stdout, and a verb that is done within five seconds leaves no line.

    Args:
        verb: Name of the verb.
        task: The work, as a verb and its object.
        total: The number of parts that are counted.
        unit: What the parts are.
    """
    console = open_console(stderr=True)
    with (
        Progress(console, verb, [], quiet_s=RECORD_EVERY_S) as progress,
        progress.stage(task, total, unit) as stage,
    ):
        yield stage
