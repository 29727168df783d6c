"""Peak memory of a build, in a process of its own that holds one window of images at a time. Linux only."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from ensemble.outranking.builder import OutrankingBuilder
from ensemble.outranking.combine import Combine
from jobs.benchmark.synthetic_pool import SyntheticPool

WINDOW_IMAGES = 2048


@dataclass(frozen=True)
class PeakMemory:
    """Memory of a build, in bytes.

    Attributes:
        before: Resident memory before the first image was read: interpreter and libraries.
        window: Size of one window of images of all members.
        peak: Peak of the resident memory.
        table: Size of the table that was built.
    """

    before: int
    window: int
    peak: int
    table: int

    @property
    def beyond_window(self) -> int:
        """Give what the build took beside one window and what was resident before."""
        return self.peak - self.before - self.window


def measure_build(
    images: int, classes: int, members: int, seed: int, combines: Sequence[Combine]
) -> PeakMemory:
    """Build an outranking table from windows in a fresh process, and measure its peak memory."""
    words = [sys.executable, "-m", "jobs.benchmark.process_memory"]
    sizes = [str(size) for size in (images, classes, members, seed)]
    done = subprocess.run([*words, *sizes, *combines], capture_output=True, text=True, check=True)
    return PeakMemory(**json.loads(done.stdout))


def _build(
    images: int, classes: int, members: int, seed: int, combines: Sequence[Combine]
) -> PeakMemory:
    names = [f"m{member}" for member in range(members)]
    builder = OutrankingBuilder(names, 2, combines)
    # The same synthetic window in every round, so that making it is not measured.
    pool = SyntheticPool(num_members=members, num_classes=classes, seed=seed)
    labels = pool.labels(min(WINDOW_IMAGES, images))
    window = list(pool.columns(labels))
    size = sum(column.nbytes for column in window)
    before = resident_bytes() - size
    for first in range(0, images, WINDOW_IMAGES):
        rows = slice(0, min(WINDOW_IMAGES, images - first))
        builder.add([column[rows] for column in window], labels[rows])
    table = builder.finish()
    held = [part for part in (table, table.logs, table.likely) if part is not None]
    arrays = [v for part in held for v in vars(part).values() if isinstance(v, np.ndarray)]
    return PeakMemory(before, size, peak_bytes(), sum(array.nbytes for array in arrays))


def resident_bytes() -> int:
    """Give the resident memory of this process, in bytes."""
    return _status("VmRSS")


def peak_bytes() -> int:
    """Give the peak of the resident memory of this process, in bytes."""
    # Not getrusage: its peak goes on counting from that of the parent.
    return _status("VmHWM")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) * 1024


if __name__ == "__main__":
    images, classes, members, seed = (int(word) for word in sys.argv[1:5])
    combines = cast(list[Combine], sys.argv[5:])
    print(json.dumps(vars(_build(images, classes, members, seed, combines))))
