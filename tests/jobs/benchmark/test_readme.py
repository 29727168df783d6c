import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
from typer.main import get_group

from jobs.benchmark.gpu.settings import GpuBenchmarkConfig
from jobs.benchmark.report import BenchmarkConfig, read_config
from jobs.benchmark.search_settings import SearchBenchmarkConfig
from jobs.cli.benchmark import benchmark

FOLDER = Path(__file__).parents[3] / "jobs" / "benchmark"
README = (FOLDER / "README.md").read_text()
VERBS = sorted(get_group(benchmark).commands)
# Benchmarks whose settings have a file of their own.
ELSEWHERE: dict[str, type[BenchmarkConfig]] = {
    "gpu": GpuBenchmarkConfig,
    "search": SearchBenchmarkConfig,
}


def _config(verb: str) -> type[BenchmarkConfig]:
    if verb in ELSEWHERE:
        return ELSEWHERE[verb]
    config: type[BenchmarkConfig] = getattr(
        import_module(f"jobs.benchmark.{verb}"), f"{verb.title()}BenchmarkConfig"
    )
    return config


def test_every_benchmark_has_a_row_and_every_row_a_benchmark() -> None:
    assert sorted(re.findall(r"^\| `ensemble benchmark (\w+)` \|", README, re.MULTILINE)) == VERBS


@pytest.mark.parametrize("line", re.findall(r"^    ensemble benchmark (.+)$", README, re.MULTILINE))
def test_every_command_that_is_shown_has_settings_that_are_there(line: str) -> None:
    verb, *words = shlex.split(line, comments=True)
    settings = [word for word in words if word not in ("--full", "--smoke")]
    assert read_config(_config(verb), settings, is_full="--full" in words).out.suffix == ".json"


# The default of `gpu` is its full size, and `--smoke` is smaller.
@pytest.mark.parametrize("verb", sorted({*VERBS} - {"gpu"}))
def test_the_full_size_is_made_of_settings_and_no_smaller_than_the_default(verb: str) -> None:
    default, full = (read_config(_config(verb), [], is_full=is_full) for is_full in (False, True))
    assert full != default
    for key in _config(verb).full_size:
        assert getattr(full, key) > getattr(default, key)


def test_every_file_is_in_the_table_of_files() -> None:
    files = {path.name for path in FOLDER.rglob("*.py")} - {"__init__.py", "__main__.py"}
    linked = {Path(link).name for link in re.findall(r"\]\(([^)]+\.py)\)", README)}
    assert files <= linked
