"""Sizes of `ensemble benchmark schedule`, as settings."""

from pathlib import Path
from typing import ClassVar

from pydantic import NonNegativeInt, PositiveInt

from jobs.benchmark.report import BenchmarkConfig


class ScheduleBenchmarkConfig(BenchmarkConfig):
    """How many networks are fine-tuned on how many hosts, and which search runs beside them."""

    full_size: ClassVar = {"repeats": 5, "table_images": 50_000}

    hosts: PositiveInt = 1
    """Host actors; the search needs a core beside theirs."""
    num_clusters: PositiveInt = 8
    """Networks that are fine-tuned."""
    epochs: PositiveInt = 15
    """Epochs that each network is fine-tuned for."""
    train_images: PositiveInt = 600
    """Images of digits that the networks are trained on."""
    search_images: PositiveInt = 5000
    """Images of the synthetic pool that is searched."""
    search_classes: PositiveInt = 100
    """Classes of the synthetic pool."""
    search_members: PositiveInt = 13
    """Members of the synthetic pool."""
    table_images: PositiveInt = 10_000
    """Images of the table whose first weights are timed, of as many members."""
    table_classes: PositiveInt = 1000
    """Classes of that table."""
    repeats: PositiveInt = 3
    """Rounds; in each one everything is timed in turn, and medians are reported."""
    seed: NonNegativeInt = 0
    """Seed of the synthetic pool and of the split of the digits."""
    out: Path = Path("schedule-benchmark.json")
    """JSON file that the bars and figures are written to."""
