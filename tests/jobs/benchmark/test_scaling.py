import json
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from cluster.scheduling.simulate import Outage
from ensemble.errors import ConfigError
from jobs.benchmark.fleet import FleetSize, measure_fleet
from jobs.benchmark.scaling import benchmark_scaling
from jobs.benchmark.spot_market import lower_bound_s, on_a_spot_market


def test_a_small_scaling_benchmark_has_every_figure(tmp_path: Path) -> None:
    none = ["real_hosts=[]", "baseline=false", "fleet_hosts=[]", "fleet_images=0", "spot_markets=0"]
    words = ["shards=100", *none, f"out={tmp_path}/bench.json"]
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


def test_without_pandas_ray_data_is_left_out_and_the_rest_is_measured(tmp_path: Path) -> None:
    # None in the place of a module makes its import fail, as where it is not installed.
    program = (
        "import sys; sys.modules['pandas'] = None\n"
        "sys.argv = ['ensemble', 'benchmark', 'scaling', 'shards=100', 'real_hosts=[]']\n"
        "sys.argv += ['fleet_hosts=[]', 'fleet_images=0', 'spot_markets=0']\n"
        "from jobs.__main__ import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("left out:")]
    assert "pandas" in line
    assert "pip install -e '.[benchmark]'" in line
    assert done.stdout.splitlines()[-1] == "met: 9 of 9 bars."


@pytest.mark.ray
@pytest.mark.nightly
def test_no_block_reaches_the_driver_of_a_whole_imagenet_table(tmp_path: Path) -> None:
    """13 x 50,000 x 1,000: 2.6 GB that hosts write; the driver grows by their log entries alone."""
    size = FleetSize(hosts=2, shards=391, shard_images=128, block_ms=0, commit_s=0.0)
    figures = measure_fleet(size, tmp_path / "fleet")
    print(figures)
    assert figures.blocks == 13 * 391
    # Of 2.6 GB none crosses. The aim of 100 MB is the benchmark's: 97 to 105 MB were measured.
    assert figures.driver_mb <= 150
    assert not figures.driver_imports_torch


@pytest.mark.nightly
def test_64_hosts_of_a_spot_market_are_used_nine_tenths_of_the_time_that_they_are_up() -> None:
    efficiencies = []
    for seed in range(5):
        outcome, lost = on_a_spot_market(seed)
        print(outcome, lost)
        efficiencies.append(outcome.efficiency)
    assert min(efficiencies) >= 0.9


def test_lower_bound_counts_what_is_up() -> None:
    outages = [Outage(frozenset({0}), 2.0, 3.0, 6.0), Outage(frozenset({0, 1}), 10.0, 11.0, 12.0)]
    assert lower_bound_s(8.0, 2, []) == 4.0
    assert lower_bound_s(8.0, 2, outages) == 6.0
    assert lower_bound_s(16.0, 2, outages) == 10.0
    assert lower_bound_s(18.0, 2, outages) == 13.0
