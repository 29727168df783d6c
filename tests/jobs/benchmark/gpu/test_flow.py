import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import get_args

import pytest
import torch
from rich.console import Console

from ensemble.config import check
from ensemble.errors import ConfigError
from ensemble.views.settings import AnyPolicy, ListedViews
from jobs.benchmark.gpu.correctness import POLICIES
from jobs.benchmark.gpu.flow import benchmark_gpu
from jobs.benchmark.gpu.placement import pool_architectures
from jobs.benchmark.gpu.settings import SECONDS_OF_PART, GpuBenchmarkConfig, PartName

from .smoke import smoke

LIMIT_S = 540
# One family of plain and one of residual networks; tests/jobs/benchmark/gpu/test_ray_pool.py has all of them.
FEW = "families=[vgg11_small,resnet20_bottleneck_small]"
WITHOUT_RAY = [part for part in SECONDS_OF_PART if part != "ray_pool"]


def test_every_part_without_ray_runs_on_a_cpu_and_its_answers_are_right(tmp_path: Path) -> None:
    document = smoke([FEW, f"parts=[{','.join(WITHOUT_RAY)}]"], tmp_path)
    bars = document["bars"]
    assert isinstance(bars, list)
    assert [bar for bar in bars if not bar["is_met"]] == [], document["left_out"]
    assert len(bars) > 10
    figures = document["figures"]
    assert isinstance(figures, dict)
    assert list(figures) == WITHOUT_RAY
    machine = document["machine"]
    assert isinstance(machine, dict)
    assert machine["device"] == "cpu"


def test_a_part_whose_time_is_over_is_left_out_and_said_so(tmp_path: Path) -> None:
    document = smoke(["parts=[profile]", "limit_s=0.01"], tmp_path)
    left_out = document["left_out"]
    assert isinstance(left_out, list)
    assert any(sentence.startswith("profile: ") for sentence in left_out)
    assert document["figures"] == {}


def test_a_part_that_fails_is_no_success_and_the_next_one_runs(tmp_path: Path) -> None:
    # A network of torchvision that is not there is noticed when it is built.
    words = ["parts=[profile,training]", "networks=[torchvision/none]"]
    document = smoke(words, tmp_path)
    bars, figures, left_out = document["bars"], document["figures"], document["left_out"]
    assert isinstance(bars, list)
    assert isinstance(figures, dict)
    assert isinstance(left_out, list)
    assert [bar["name"] for bar in bars if not bar["is_met"]] == ["parts that failed or were ended"]
    assert list(figures) == ["training"]
    assert any("no torchvision architecture 'none'" in sentence for sentence in left_out)


def test_a_wrong_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match="parts"):
        benchmark_gpu(["parts=[correct]"], Console(file=StringIO()), is_smoke=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_gpu_that_is_not_there_is_named_before_any_part_begins(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    with pytest.raises(ConfigError, match="ensemble benchmark gpu --smoke"):
        benchmark_gpu([f"out={out}"], Console(file=StringIO()))
    assert not out.exists()


def test_every_part_has_its_time_and_all_end_within_nine_minutes() -> None:
    assert list(SECONDS_OF_PART) == list(get_args(PartName))
    assert sum(SECONDS_OF_PART.values()) == GpuBenchmarkConfig().limit_s < LIMIT_S


def test_the_smoke_run_is_made_of_settings() -> None:
    small = check(GpuBenchmarkConfig, GpuBenchmarkConfig.smoke_size, "the test")
    assert (small.device, GpuBenchmarkConfig().device) == ("cpu", "cuda")
    assert small.parts == GpuBenchmarkConfig().parts


def test_every_policy_of_views_is_compared() -> None:
    assert {type(policy) for policy in POLICIES} == {*get_args(AnyPolicy), ListedViews}


def test_the_pool_is_that_of_the_paper() -> None:
    members = pool_architectures(GpuBenchmarkConfig())
    assert len(members) == 13
    assert ("inception-resnet-v2", "timm/inception_resnet_v2") in members
    assert ("resnet200", "resnet200") in members


def test_nothing_but_the_last_part_needs_ray_or_a_client_of_s3() -> None:
    names = [f"jobs.benchmark.gpu.{part}" for part in (*SECONDS_OF_PART, "__main__")]
    program = (
        "import sys, importlib\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "print(sorted({'ray', 's3fs', 'fsspec', 'boto3'} & set(sys.modules)))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
