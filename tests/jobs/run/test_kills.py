"""SIGKILL of hosts, drivers and processes of Ray: the table comes out byte for byte as if nothing had happened."""

import json
import random
import shutil
from pathlib import Path

import pytest

from ensemble.table.lease import hold

from ..conftest import Command
from ..killing import Killer, kill_by_plan, passes_of

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def undisturbed(
    finished_runs: Path, tiny_config: Path, tmp_path_factory: pytest.TempPathFactory
) -> Killer:
    """A finished run, whose trained weights the others use."""
    folder = tmp_path_factory.mktemp("kills")
    shutil.copytree(finished_runs, folder / "runs")
    return Killer(tiny_config, folder, random.Random(0))


# The loss of Ray's processes: tests/cluster/test_session.py, and test_many_kills.py at night.
def test_a_run_that_loses_its_driver_goes_on_to_the_same_bytes(undisturbed: Killer) -> None:
    undisturbed.rng.seed(1)
    kill_by_plan(undisturbed, ["driver"])


@pytest.mark.nightly
def test_forty_kills_of_drivers_change_no_byte(undisturbed: Killer) -> None:
    undisturbed.rng.seed(2)
    while undisturbed.kills["driver"] < 40:
        plan = undisturbed.rng.choices(["driver", "host"], [9, 1], k=10)
        kill_by_plan(undisturbed, plan)
        print(json.dumps(undisturbed.kills), undisturbed.collected, "collected", flush=True)


def test_table_verbs_on_a_real_run(
    undisturbed: Killer, command: Command, command_here: Command
) -> None:
    folder = undisturbed.folder / "runs" / "tiny"
    shown = json.loads(command_here("table", "show", folder, "--json").stdout)
    assert {"resnet-0", "resnet-1", "mobilenet"} <= {c["member"] for c in shown["columns"]}
    assert shown["written_by"] is None
    assert "same      mobilenet" in command_here("table", "diff", folder, folder).stdout
    shard = next(undisturbed.store.root.glob("columns/*/*.arrow"))
    before = shard.read_bytes()
    shard.write_bytes(before[:100])
    found = command_here("table", "repair", folder, "--check")
    assert (found.returncode, shard.name in found.stdout) == (1, True)
    repaired = command_here("table", "repair", folder)
    assert repaired.returncode == 0
    assert "1 damaged; `ensemble resume` computes what is gone" in repaired.stdout
    resumed = command("resume", folder, cwd=undisturbed.folder)
    assert resumed.returncode == 0, resumed.stderr
    assert 0 < passes_of(resumed.stdout) <= 64 * 5
    assert shard.read_bytes() == before
    assert "0 files removed" in command_here("table", "gc", folder).stdout
    exported = command_here(
        "table", "export", folder, "--out", undisturbed.folder / "rows.npz", "--format", "npz"
    )
    assert exported.returncode == 0, exported.stderr


def test_second_driver_is_refused_and_told_whose_the_table_is(
    undisturbed: Killer, command: Command, tiny_config: Path
) -> None:
    with hold(undisturbed.store):
        done = command("run", tiny_config, "name=tiny", cwd=undisturbed.folder)
    assert done.returncode == 1
    assert "TableBusyError: another run is writing the table" in done.stderr
    assert "process" in done.stderr
