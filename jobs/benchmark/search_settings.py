"""Settings of `ensemble benchmark search`."""

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field, NonNegativeInt, PositiveInt

from jobs.benchmark.report import BenchmarkConfig


class SearchBenchmarkConfig(BenchmarkConfig):
    """Sizes of the synthetic pool, and what is measured on it."""

    full_size: ClassVar = {"images": 50_000, "repeats": 5}

    images: PositiveInt = 20_000
    """Images of the synthetic pool."""
    classes: Annotated[int, Field(ge=12)] = 1000
    """Classes of the synthetic pool."""
    members: Annotated[int, Field(ge=2)] = 13
    """Members of the synthetic pool."""
    k: Annotated[int, Field(ge=1, le=10)] = 5
    """An image counts as wrong if its label is not among this many best classes."""
    seed: NonNegativeInt = 0
    """Seed of the synthetic pool, of the weights that are compared with brute force, and of the bootstrap."""
    repeats: PositiveInt = 3
    """Rounds; what is compared is timed in turn in each round, and medians are reported."""
    threads: PositiveInt = 2
    """Threads of the build, of the read and of torch."""
    topk_images: PositiveInt = 10_000
    """Images that torch.topk is timed on for one weight; its time is scaled to all images and 101 weights."""
    caruana_images: PositiveInt = 10_000
    """Images that the 50 rounds of ensemble selection are compared on."""
    replicates: NonNegativeInt = 200
    """Bootstrap samples that the paper's search is repeated on; 0 for none."""
    exact_weights: NonNegativeInt = 8
    """Random weightings whose errors are compared with brute force, image by image."""
    memory: bool = True
    """Measure the peak memory of a build, in a process of its own."""
    out: Path = Path("search-benchmark.json")
    """JSON file that the bars and figures are written to."""
