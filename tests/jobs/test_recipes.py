"""The recipes of the papers: their headers say how large each network is, and what else a reader must know first."""

from pathlib import Path

import pytest

from ensemble.members.source_settings import RecipeSource
from jobs.settings import load_run_config
from jobs.study.variants import count_parameters

CONFIGS = Path(__file__).parents[2] / "jobs" / "configs"
CLASSES = {
    "airbench94": 10,
    "alexnet": 1000,
    "pyramidnet-196-48": 10,
    "vgg": 1000,
    "wrn-28-10": 100,
}


def _header(name: str) -> str:
    lines = (CONFIGS / f"{name}.yaml").read_text().split("images:")[0].splitlines()
    return " ".join(line.lstrip("# ") for line in lines)


@pytest.mark.parametrize("name", CLASSES)
def test_the_header_has_the_parameters_of_every_network(name: str) -> None:
    sources = [member.source for member in load_run_config(CONFIGS / f"{name}.yaml").members]
    architectures = {s.architecture for s in sources if isinstance(s, RecipeSource)} - {None}
    counts = {f"{count_parameters(str(one), CLASSES[name]):,}" for one in architectures}
    header = _header(name)
    assert [count for count in sorted(counts) if count not in header] == []


@pytest.mark.parametrize("name", CLASSES)
def test_the_header_tells_command_source_hardware_cost_and_what_to_expect(name: str) -> None:
    header = _header(name)
    for word in (f"ensemble run jobs/configs/{name}.yaml", "Source:", "Hardware:", "Cost:"):
        assert word in header
    assert "Expected" in header
    assert "Departures:" in header
