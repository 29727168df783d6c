import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from ensemble.errors import ConfigError, UnknownNameError
from jobs.benchmark.views import benchmark_views

from ..conftest import Command


def test_small_benchmark_of_views_has_every_figure(tmp_path: Path) -> None:
    words = ["architectures=[squeezenet1_1]", "short_side=256", "repeats=1", "stride=16"]
    console = Console(record=True, width=120, file=StringIO())
    report = benchmark_views([*words, f"out={tmp_path}/bench.json"], console)
    assert json.loads((tmp_path / "bench.json").read_text()) == report.document()
    figures = report.figures
    assert "squeezenet1_1, round 1 of 1: dense" in console.export_text()
    assert [bar.measured for bar in report.bars] == [
        figures["networks"]["squeezenet1_1"]["speedup_over_crops"]
    ]
    ways = figures["networks"]["squeezenet1_1"]["ways"]
    assert {way: row["passes"] for way, row in ways.items()} == {
        "dense": 1,
        "crops at its positions": 9,
        "ten_crop": 10,
    }
    assert ways["dense"]["gflops"] < ways["crops at its positions"]["gflops"] / 5
    network = figures["networks"]["squeezenet1_1"]
    assert network["speedups_over_crops"] == [network["speedup_over_crops"]]
    assert network["speedup_over_crops"] > 0


def test_a_setting_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"short_sid: no such setting\. Did you mean 'short_side"):
        benchmark_views(["short_sid=3"], Console(quiet=True))


def test_a_bar_that_is_not_met_ends_the_command_with_code_1(
    command_here: Command, tmp_path: Path
) -> None:
    # An image of the network's own input size has one position: dense evaluation gains nothing.
    words = ["architectures=[squeezenet1_1]", "short_side=224", "repeats=1"]
    done = command_here("benchmark", "views", *words, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("NOT met: 1 of 1 bars: squeezenet1_1: dense")
    assert not done.stderr
    assert (tmp_path / "views-benchmark.json").exists()


def test_a_network_that_torchvision_lacks_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"'resnet5'\. Did you mean 'resnet50'"):
        benchmark_views(["architectures=[resnet5]"], Console(quiet=True))
