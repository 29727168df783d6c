"""What a run is doing, for a person: a live table on a terminal, a plain line now and then elsewhere."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from jobs import interrupt

LINE_EVERY_S = 5.0


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

    def describe(self) -> str:
        """One line."""
        text = f"{self.name}: {self.done}/{self.total} {self.unit}"
        if self.images:
            text += f", {self.images / max(self.elapsed, 1e-9):.0f} images/s"
        if self.eta_s:
            text += f", ETA {self.eta_s:.0f} s"
        return f"{text}, {self.elapsed:.1f} s"


class Progress:
    """Stages and the state of each member. Use as a context manager."""

    def __init__(self, console: Console, members: list[str]) -> None:
        self._console = console
        self._states = dict.fromkeys(members, ("waiting", ""))
        self.stages: list[StageProgress] = []
        self._stop = threading.Event()
        self._ticker = threading.Thread(target=self._print_lines, daemon=True)
        self._live = Live(self, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        else:
            self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._console.is_terminal:
            self._live.stop()
        else:
            self._ticker.join()

    @contextmanager
    def stage(self, name: str, total: int = 1, unit: str = "done") -> Iterator[StageProgress]:
        """Show a stage while it runs; its last line stays."""
        interrupt.check()
        stage = StageProgress(name, total, unit)
        self.stages.append(stage)
        yield stage
        if total == 1 and not stage.done:
            stage.advance()
        stage.seconds = stage.elapsed
        self.say(stage.describe())

    def member(self, name: str, state: str, detail: str = "") -> None:
        """Note what a member is at."""
        interrupt.check()
        self._states[name] = (state, detail)

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._console.print(Text(line), soft_wrap=True)

    def _print_lines(self) -> None:
        while not self._stop.wait(LINE_EVERY_S):
            for stage in self.stages:
                if stage.seconds is None:
                    self.say(f"{stage.describe()}; {self._summary()}")

    def _summary(self) -> str:
        states = [state for state, _ in self._states.values()]
        counts = {state: states.count(state) for state in dict.fromkeys(states)}
        return ", ".join(f"{count} {state}" for state, count in counts.items())

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
                    f"{stage.images / max(stage.elapsed, 1e-9):.0f}" if stage.images else "",
                    f"{stage.eta_s:.0f} s" if stage.eta_s else "",
                    f"{stage.elapsed:.1f} s",
                )
        members = Table(box=None, pad_edge=False)
        members.add_column("member")
        members.add_column("state")
        for name, (state, detail) in self._states.items():
            members.add_row(name, Text(f"{state} {detail}"))
        return Group(running, Text(), members)
