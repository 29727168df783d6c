"""An embedded Ray: what its workers import, where it lies, and what happens when a process of it is lost."""

import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from cluster.session import session
from cluster.settings import ClusterConfig

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Ray, started where a user has files that are named like the packages of the project."""
    folder = tmp_path_factory.mktemp("user")
    for name in ("ensemble.py", "cluster/__init__.py", "jobs/__init__.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("raise RuntimeError('a file of the user was run')")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with session(ClusterConfig(hosts=1, object_store_mb=80)):
            yield


@ray.remote
def _where_modules_are() -> tuple[str, ...]:
    import cluster
    import ensemble
    import jobs

    return tuple(str(module.__file__) for module in (ensemble, cluster, jobs))


def test_workers_import_the_project_and_not_a_users_file_of_the_same_name(started: None) -> None:
    files = ray.get(_where_modules_are.remote())
    root = Path(__file__).parents[2]
    assert files == tuple(
        str(root / package / "__init__.py") for package in ("ensemble", "cluster", "jobs")
    )


def test_workers_find_the_modules_that_the_driver_finds(tmp_path: Path) -> None:
    # As with `python -m`, which puts the folder it is started in first.
    (tmp_path / "users_factory.py").write_text("VALUE = 7")
    code = """
import ray
from cluster.session import session
from cluster.settings import ClusterConfig

@ray.remote
def value():
    import users_factory
    return users_factory.VALUE

with session(ClusterConfig(hosts=1, object_store_mb=80)):
    print(ray.get(value.remote()))
"""
    end = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert end.stdout == "7\n", end.stderr


def test_no_other_user_can_reach_its_sockets(started: None) -> None:
    sockets = ray._private.worker._global_node.get_sockets_dir_path()
    folders = [Path(sockets), *Path(sockets).parents]
    closed = [stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0 for folder in folders]
    assert any(closed)
    assert Path(tempfile.gettempdir()) in folders[closed.index(True) :]


LOSS = """
import os, signal, sys, time, ray
from cluster.session import session
from cluster.settings import ClusterConfig
from ensemble.errors import ClusterError

@ray.remote
def sleep():
    time.sleep(120)

try:
    with session(ClusterConfig(hosts=1, object_store_mb=80)):
        ref = sleep.remote()
        ray.wait([ref], timeout=1)
        for child in ray._private.worker._global_node.all_processes[sys.argv[1]]:
            os.kill(child.process.pid, signal.SIGKILL)
        began = time.monotonic()
        ray.get(ref)
except ClusterError as error:
    assert time.monotonic() - began < 60
    sys.exit(f"ClusterError: {error}")
"""


@pytest.mark.parametrize(
    "process", [pytest.param("raylet", marks=pytest.mark.nightly), "gcs_server"]
)
def test_a_call_under_way_ends_with_one_message_when_a_process_of_ray_is_killed(
    process: str, tmp_path: Path
) -> None:
    end = subprocess.run(
        [sys.executable, "-c", LOSS, process],
        cwd=tmp_path,  # not where `started` has files that are named like the packages
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert end.returncode == 1
    assert f"ClusterError: Ray on this machine has lost its {process} process" in end.stderr
    assert "Traceback" not in end.stderr
