"""What every benchmark hands back: its bars and figures, the machine, one document and one last line.

Here stand the form of the document, the lines that are printed, and the reading of a benchmark's
settings; what is measured, and which bars it is held to, stands with each benchmark.
"""

import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from rich.console import Console
from rich.table import Table

from ensemble.config import Config, load_words
from ensemble.errors import ConfigError
from ensemble.files import write_atomic

SCHEMA_VERSION = 3
_LIBRARIES = ("numpy", "torch", "ray")

# Prints the name of the step that begins, so that no benchmark works in silence.
Begin = Callable[[str], None]


class BenchmarkConfig(Config):
    """Settings of a benchmark; its defaults end within three minutes on two cores."""

    full_size: ClassVar[Mapping[str, Any]] = {}
    """Settings that `--full` puts in the place of the defaults; words of the command go before both."""

    out: Path
    """JSON file that the bars and figures are written to."""


@dataclass(frozen=True)
class Bar:
    """A figure that was measured, and the bar that it is held to.

    Attributes:
        name: What was measured, with its unit.
        measured: The figure.
        compare: How the figure must compare with the bar.
        bar: The least or the greatest figure that is good enough.
    """

    name: str
    measured: float
    compare: Literal["<=", ">="]
    bar: float

    @property
    def is_met(self) -> bool:
        """Whether the figure is good enough; one that is not a number is not."""
        return self.measured <= self.bar if self.compare == "<=" else self.measured >= self.bar


@dataclass(frozen=True)
class BenchmarkReport:
    """What a benchmark measured.

    Attributes:
        settings: The settings it ran with, as plain values.
        bars: What it is judged by.
        figures: All else that it measured, as plain values.
        left_out: A sentence for each part that was not measured or not judged, with the reason.
        machine: What is known of the machine beside its processor and libraries, as its GPU.
    """

    settings: Mapping[str, Any]
    bars: tuple[Bar, ...]
    figures: Mapping[str, Any]
    left_out: tuple[str, ...] = ()
    machine: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_met(self) -> bool:
        """Whether every bar is met; a benchmark that judged nothing has met nothing."""
        return bool(self.bars) and all(bar.is_met for bar in self.bars)

    def document(self) -> dict[str, Any]:
        """Give the report as the JSON document that is written, with the machine it ran on."""
        return {
            "schema_version": SCHEMA_VERSION,
            "settings": dict(self.settings),
            "machine": describe_machine() | dict(self.machine),
            "bars": [asdict(bar) | {"is_met": bar.is_met} for bar in self.bars],
            "figures": dict(self.figures),
            "left_out": list(self.left_out),
        }

    def verdict(self) -> str:
        """Say in one line whether the bars are met, and name those that are not."""
        if not self.bars:
            return "NOT met: nothing was judged."
        missed = [bar for bar in self.bars if not bar.is_met]
        if not missed:
            return f"met: {len(self.bars)} of {len(self.bars)} bars."
        names = "; ".join(
            f"{bar.name}: {bar.measured:,.4g} (bar {bar.compare} {bar.bar:,g})" for bar in missed
        )
        return f"NOT met: {len(missed)} of {len(self.bars)} bars: {names}."


AnyBenchmarkConfig = TypeVar("AnyBenchmarkConfig", bound=BenchmarkConfig)


def read_config(
    kind: type[AnyBenchmarkConfig], words: Sequence[str], is_full: bool
) -> AnyBenchmarkConfig:
    """Read the settings of a benchmark from the words of its command.

    Args:
        kind: The benchmark's settings.
        words: As typed, each `key=value`.
        is_full: Start from the full size instead of the defaults.

    Raises:
        ConfigError: A word is not of the form key=value, or sets an unknown key or a wrong value.
    """
    start = kind.full_size if is_full else {}
    return load_words(kind, words, start)


def step_printer(console: Console) -> Begin:
    """Give the function that prints each step as it begins, with the seconds since now."""
    started = time.perf_counter()

    def begin(step: str) -> None:
        line = f"{time.perf_counter() - started:6.1f} s  {step}"
        console.print(line, soft_wrap=True, highlight=False, markup=False)

    return begin


def describe_machine() -> dict[str, Any]:
    """Describe the machine and the libraries that figures were measured on."""
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: _version(name) for name in _LIBRARIES},
    }


def finish(report: BenchmarkReport, out: Path, console: Console) -> BenchmarkReport:
    """Write the report, and print its bars, what was left out, and as the last line whether it is met.

    Raises:
        ConfigError: The file of the figures cannot be written.
    """
    console.print(_bars_table(report.bars))
    lines = [f"left out: {sentence}" for sentence in report.left_out]
    for line in (*lines, f"figures: {out}", report.verdict()):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    write_document(report, out)
    return report


def write_document(report: BenchmarkReport, out: Path) -> None:
    """Write the JSON document of a report.

    Raises:
        ConfigError: The file cannot be written.
    """
    try:
        write_atomic(out, json.dumps(report.document(), indent=2) + "\n")
    except OSError as error:
        raise ConfigError(
            f"cannot write the figures to {out}: {error.strerror}. Set out=FILE to a file in a "
            "folder that you may write to."
        ) from error


def _bars_table(bars: Sequence[Bar]) -> Table:
    table = Table(title="Bars", title_justify="left")
    for column in ("what", "measured", "bar", "met"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for bar in bars:
        met = "yes" if bar.is_met else "NO"
        table.add_row(bar.name, f"{bar.measured:,.4g}", f"{bar.compare} {bar.bar:,g}", met)
    return table


def _version(library: str) -> str | None:
    """Look up the version of a library; None where it is not installed, as Ray beside a GPU benchmark."""
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """The name of the processor as Linux gives it, or its architecture where there is no such file."""
    file = Path("/proc/cpuinfo")
    if file.exists():
        for line in file.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
