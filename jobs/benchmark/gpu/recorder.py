"""What a part says while it measures: steps, bars, figures and what it leaves out, each sent at once."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from jobs.benchmark.report import Bar

Judged = Literal["answers", "times"]


@dataclass(frozen=True)
class Entry:
    """One message of a part.

    Attributes:
        kind: What the value is: a line to print, a bar, a figure of the part, a fact of the machine, or
            a sentence on what was left out.
        key: Name of a figure or fact; empty for other kinds.
        value: The line, bar, plain value or sentence.
    """

    kind: Literal["line", "bar", "figure", "machine", "left_out"]
    key: str
    value: Any


class Recorder:
    """Sends what a part finds, and knows how much time it has.

    Args:
        send: Takes each entry at once, so that nothing is lost when the part is ended.
        deadline: Time on the monotonic clock at which the part is ended.
        judges_times: Whether times are judged; on a CPU they are measured only.
    """

    def __init__(
        self, send: Callable[[Entry], None], deadline: float, judges_times: bool = True
    ) -> None:
        self._send, self._deadline, self._judges_times = send, deadline, judges_times

    @property
    def seconds_left(self) -> float:
        """Seconds until the part is ended."""
        return self._deadline - time.monotonic()

    def has_time(self, step: str, seconds: float) -> bool:
        """Begin a step if it fits into the time that is left; say that it is left out otherwise.

        Args:
            step: Name of the step, as it is printed.
            seconds: Seconds that the step takes at most, by an estimate.
        """
        if self.seconds_left >= seconds:
            self.say(step)
            return True
        self.leave_out(
            f"{step}: it may take {seconds:.0f} s, and {max(self.seconds_left, 0):.0f} s were left. "
            "Choose fewer parts=[…], or raise limit_s."
        )
        return False

    def say(self, line: str) -> None:
        """Have a line printed."""
        self._send(Entry("line", "", line))

    def judge(self, bar: Bar, by: Judged) -> None:
        """Judge a figure by its bar, unless it is a time on a device whose times say nothing.

        Args:
            bar: The figure and its bar.
            by: Whether the figure follows from answers or from times.
        """
        if by == "answers" or self._judges_times:
            self._send(Entry("bar", "", bar))
        else:
            self.figure(bar.name, bar.measured)
            self.leave_out(f"{bar.name}: measured on a CPU, and not judged.")

    def figure(self, key: str, value: Any) -> None:
        """Record a plain value of this part."""
        self._send(Entry("figure", key, value))

    def machine(self, key: str, value: Any) -> None:
        """Record a fact about the machine."""
        self._send(Entry("machine", key, value))

    def leave_out(self, sentence: str) -> None:
        """Record what was not measured or not judged, with the reason."""
        self._send(Entry("left_out", "", sentence))
