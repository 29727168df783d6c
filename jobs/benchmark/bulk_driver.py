"""The driver of a bulk prediction: `python -m jobs.benchmark.bulk_driver ARTIFACT IMAGES OUT [KEY=VALUE …]`.

Prints, as JSON, the most memory that the process took, and what it had when all libraries were loaded. Linux only.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from rich.console import Console

from jobs.benchmark.process_memory import peak_bytes, resident_bytes
from jobs.predict import predict
from jobs.predict_settings import read_words
from jobs.progress.live import Progress


@dataclass(frozen=True)
class BulkRun:
    """What a bulk prediction took.

    Attributes:
        images: Number of its images.
        images_per_s: Images a second between the first part and the last.
        steady_s: Seconds between these; 0 where there is one part.
        before_bytes: Resident memory of the driver when its libraries were loaded.
        peak_bytes: Peak of that memory.
    """

    images: int
    images_per_s: float
    steady_s: float
    before_bytes: int
    peak_bytes: int


def run_bulk(place: str, images: Path, out: Path, words: Sequence[str]) -> BulkRun:
    """Answer images in another process, and read off the times of the parts when they were there.

    Args:
        place: The artifact.
        images: A folder of images, or a list.
        out: Folder of the answers.
        words: Settings of `ensemble predict`.
    """
    command = [sys.executable, "-m", "jobs.benchmark.bulk_driver", place, str(images), str(out)]
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    times = sorted(path.stat().st_mtime_ns / 1e9 for path in (out / "parts").rglob("*.parquet"))
    steady_s = times[-1] - times[0]
    # Parts have the same number of images, but for the last one of each chapter.
    steady = found["images"] * sum(1 for _ in pairwise(times)) / len(times)
    return BulkRun(steady_s=steady_s, images_per_s=steady / steady_s if steady_s else 0.0, **found)


def main(arguments: Sequence[str]) -> None:
    """Answer the images."""
    place, images, out, *words = arguments
    config, before = read_words(images, words), resident_bytes()
    with Progress(Console(stderr=True), "benchmark", ()) as progress:
        summary = predict(place, out, config, progress)
    memory = {"before_bytes": before, "peak_bytes": peak_bytes()}
    print(json.dumps({"images": summary.images, **memory}))


if __name__ == "__main__":
    main(sys.argv[1:])
