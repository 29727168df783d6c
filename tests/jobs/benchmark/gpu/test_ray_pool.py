from pathlib import Path

import pytest

from jobs.benchmark.gpu.settings import SECONDS_OF_PART

from .smoke import smoke

pytestmark = [pytest.mark.ray, pytest.mark.nightly]


def test_every_part_with_every_family_runs_on_a_cpu_and_its_answers_are_right(
    tmp_path: Path,
) -> None:
    document = smoke([], tmp_path)
    bars, figures = document["bars"], document["figures"]
    assert isinstance(bars, list)
    assert [bar for bar in bars if not bar["is_met"]] == [], document["left_out"]
    assert isinstance(figures, dict)
    assert list(figures) == list(SECONDS_OF_PART)
