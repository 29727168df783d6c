"""One finished run of the tiny config, which the tests of runs share."""

import shutil
from pathlib import Path

import pytest

from ..conftest import Command


@pytest.fixture(scope="session")
def finished_runs(
    command: Command, tiny_config: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder `runs` after a run on two hosts with shards of 64: read it, and write into copies only."""
    folder = tmp_path_factory.mktemp("finished")
    done = command("run", tiny_config, "name=tiny", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "trained, 0 from cache" in done.stdout
    # Two of three shards have images of the search split: fine-tuning does not wait for the third.
    stages = ("predict: 6/6 blocks", "fine-tune: ", "predict with sub-classifiers: ")
    places = [done.stdout.index(stage) for stage in stages]
    assert places == sorted(places)
    assert "report: runs/tiny/report.html" in done.stdout
    return folder / "runs"


@pytest.fixture
def runs(finished_runs: Path, tmp_path: Path) -> Path:
    """A copy of that folder with the run, its table and the trained weights."""
    return Path(shutil.copytree(finished_runs, tmp_path / "runs"))
