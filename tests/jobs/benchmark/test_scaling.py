import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from ensemble.errors import ConfigError
from jobs.benchmark.scaling import benchmark_scaling


def test_a_small_scaling_benchmark_has_every_figure(tmp_path: Path) -> None:
    words = ["shards=100", "real_hosts=[]", "baseline=false", f"out={tmp_path}/bench.json"]
    console = Console(record=True, width=120, file=StringIO())
    report = benchmark_scaling(words, console)
    document = json.loads((tmp_path / "bench.json").read_text())
    assert document["figures"] == report.figures
    assert [row["hosts"] for row in report.figures["virtual"]] == [1, 2, 4]
    assert all(row["efficiency"] >= 0.9 for row in report.figures["virtual"])
    assert all(0.85 <= row["planned_over_seconds"] <= 1.15 for row in report.figures["virtual"])
    names = [bar.name for bar in report.bars]
    assert len(set(names)) == len(names) == 9
    assert report.left_out == ("the comparison with Ray Data, because baseline=false is set.",)
    assert console.export_text().splitlines()[-1] == "met: 9 of 9 bars."


@pytest.mark.parametrize("name", ["rival", "rival_images", "rival_pixels"])
def test_an_old_name_of_a_setting_is_refused_with_the_new_one(name: str) -> None:
    new = name.replace("rival", "baseline")
    with pytest.raises(ConfigError, match=rf"{name} is called {new}; write {new}="):
        benchmark_scaling([f"{name}=1"], Console(quiet=True))
