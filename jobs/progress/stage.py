"""How far a stage and a member are: counts and times, and what follows from them."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from jobs.progress.record import StageRecord

WHOLE = "done"
"""The unit of a stage that is one piece of work."""


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
    look: Callable[[], Mapping[str, str]] = dict
    """Tells how far each piece of work under way is, by the name of its member."""

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
        """Give the stage's progress as a value."""
        return StageRecord(
            name=self.name,
            done=self.done,
            total=self.total,
            unit=self.unit,
            images_per_s=round(self.images_per_s, 1),
            eta_s=None if self.eta_s is None else round(self.eta_s, 1),
            seconds=round(self.elapsed, 1),
        )

    @property
    def is_counted(self) -> bool:
        """Whether the stage has parts that are counted, or is one piece of work."""
        return self.unit != WHOLE

    def describe(self) -> str:
        """Tell in one line how far the stage is."""
        text = f"{self.name}: {self.done}/{self.total} {self.unit}"
        if self.images:
            text += f", {self.images_per_s:.0f} images/s"
        if self.eta_s:
            text += f", ETA {self.eta_s:.0f} s"
        return f"{text}, {self.elapsed:.1f} s"


@dataclass
class MemberProgress:
    """The state of a member, and what it has computed."""

    state: str = "waiting"
    detail: str = ""
    images: int = 0
    compute_s: float = 0.0

    @property
    def images_per_s(self) -> float:
        """Forward passes a second while it computed."""
        return self.images / self.compute_s if self.compute_s else 0.0
