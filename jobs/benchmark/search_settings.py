"""Settings of `ensemble benchmark search`."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from ensemble.config import Config


class SearchBenchmarkConfig(Config):
    """Sizes of the made-up pool, and what is measured on it."""

    images: PositiveInt = 50_000
    """Images of the made-up pool."""
    classes: Annotated[int, Field(ge=12)] = 1000
    """Its classes."""
    members: Annotated[int, Field(ge=2)] = 13
    """Its members."""
    k: Annotated[int, Field(ge=1, le=10)] = 5
    """The error is top-k."""
    seed: NonNegativeInt = 0
    """Of the pool, and of the halves of the real data."""
    repeats: PositiveInt = 5
    """Rounds; what is compared is measured in turn in each of them, and medians are reported."""
    threads: PositiveInt = 2
    """Of the build, of the read and of torch."""
    topk_images: PositiveInt = 10_000
    """Images that torch.topk is timed on, for one weight; scaled to all images and 101 weights."""
    caruana_images: PositiveInt = 10_000
    """Images that the 50 rounds of ensemble selection are compared on."""
    replicates: NonNegativeInt = 200
    """Bootstrap samples of the paper's search."""
    exact_weights: NonNegativeInt = 8
    """Random weightings whose errors are compared with brute force, image by image."""
    memory: bool = True
    """Measure the peak memory of a build in a process of its own."""
    predictions: Path | None = None
    """An .npz of real top-k predictions (`models`, `classes`, `probabilities`, `labels`); none if not
    set."""
    halves: PositiveInt = 20
    """Random halves of the real data: fitted on one, judged on the other."""
    out: Path = Path("search-benchmark.json")
    """Where the figures go."""
