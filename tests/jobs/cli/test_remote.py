"""Submitted runs on a real head of Ray, on loopback and behind a token; commands are other processes."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.submission import ray_jobs as remote_jobs
from cluster.submission.head import connect
from ensemble.report.documents.run import Report

from ..heads import RealHead, started

pytestmark = pytest.mark.ray

# So many blocks that a run is not over before it can be stopped.
LONG = ("images.split={train: 60, search: 800, test: 900}", "cluster.shard_images=8")


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHead]:
    with started(tmp_path_factory.mktemp("home")) as found:
        yield found


@pytest.fixture(scope="module")
def away(head: RealHead, environment: dict[str, str], tmp_path_factory: Any) -> dict[str, str]:
    """The environment of a user on another machine: no token, and a secret that must stay there."""
    home = tmp_path_factory.mktemp("away")
    drop = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE", "RAY_API_SERVER_ADDRESS")
    kept = {key: value for key, value in environment.items() if key not in drop}
    return kept | {"HOME": str(home), "AWS_SECRET_ACCESS_KEY": "hunter2-must-stay-here"}


@pytest.fixture(scope="module")
def user(head: RealHead, away: dict[str, str]) -> dict[str, str]:
    """The same, with the head's token and address."""
    return away | {"RAY_AUTH_TOKEN": head.token, "RAY_API_SERVER_ADDRESS": head.address}


def _call(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobs", *words],
        capture_output=True,
        text=True,
        env=environment | {"PYTHONPATH": str(Path(__file__).parents[3])},
        cwd=environment["HOME"],
        timeout=240,
        check=False,
    )


def test_without_the_token_a_submission_is_refused_and_told_what_to_set(
    head: RealHead, away: dict[str, str], tiny_config: Path
) -> None:
    done = _call(away, "submit", str(tiny_config), "--address", head.address)
    assert done.returncode == 2
    assert "asks for a token and there is none here. Set RAY_AUTH_TOKEN" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_name_that_nobody_submitted_is_one_message(user: dict[str, str]) -> None:
    done = _call(user, "logs", "tonight")
    assert (done.returncode, "no run 'tonight'" in done.stderr) == (2, True)
    assert "Traceback" not in done.stderr


def test_the_doctor_finds_the_head_fit(head: RealHead, user: dict[str, str]) -> None:
    done = _call(user, "doctor", "--address", head.address, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["is_fit"]
    assert head.token not in done.stdout


def test_drivers_exit_codes_reach_this_machine(
    head: RealHead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", head.token)
    client = connect(head.address, False)
    for code in (0, 3, 5):
        remote_jobs.submit(client, f"ends-{code}", 1, f"echo ends; exit {code}", tmp_path, {})
    for code in (0, 3, 5):
        attempt = remote_jobs.wait(client, remote_jobs.find(client, f"ends-{code}"), 60)
        assert attempt.exit_code == code
        assert "ends" in remote_jobs.logs(client, attempt)


def _result(folder: Path) -> dict[str, Any]:
    """All that two runs of one config must agree on, and every byte of the table's shards."""
    found = Report.model_validate_json((folder / "report.json").read_text()).reproducible()
    shards = sorted((folder / "table" / "columns").rglob("*.arrow"))
    return {**found, "shards": {path.name: path.read_bytes() for path in shards}}


@pytest.mark.nightly
def test_a_run_submitted_followed_stopped_and_resumed_is_the_local_run(
    head: RealHead, user: dict[str, str], tiny_config: Path
) -> None:
    local = _call(user, "run", str(tiny_config), "name=tonight", *LONG)
    assert local.returncode == 0, local.stderr
    done = _call(user, "submit", str(tiny_config), *LONG, "--name", "tonight")
    assert done.returncode == 0, done.stderr
    again = _call(user, "submit", str(tiny_config), "--name", "tonight")
    assert again.returncode == 2
    assert "'tonight' was submitted before, and is " in again.stderr
    assert _stop_when(user, "train: 3/3") == 0
    status = json.loads(_call(user, "status", "tonight", "--json").stdout)
    assert (status["state"], status["exit_code"]) == ("stopped", 130)
    assert status["progress"]["state"] == "stopped"
    assert not (head.home / "runs" / "tonight" / "report.json").exists()

    done = _call(user, "resume", "tonight", "--wait")
    assert done.returncode == 0, done.stdout
    assert "train: 0/0 networks" in done.stdout
    # The stop may come after some of the sub-classifiers.
    trained, cached = _networks(done)
    assert (trained + cached, 0) == _networks(local)
    assert cached >= 3
    assert _result(head.home / "runs" / "tonight") == _result(
        Path(user["HOME"]) / "runs" / "tonight"
    )
    status = json.loads(_call(user, "status", "--json").stdout)
    assert (status["state"], status["exit_code"], status["attempt"]) == ("succeeded", 0, 2)
    assert status["progress"]["state"] == "finished"
    listed = json.loads(_call(user, "list", "--json").stdout)
    assert ("tonight", "succeeded") in {(run["run"], run["state"]) for run in listed}
    records = _call(user, "logs", "tonight", "--json").stdout.splitlines()
    assert all(json.loads(line)["run"] == "tonight" for line in records)
    metrics = urllib.request.urlopen(head.metrics, timeout=10).read().decode()
    assert 'member="mobilenet"' in metrics
    assert "ray_ensemble_images_total" in metrics
    texts = [path for path in head.home.parent.rglob("*") if path.is_file()]
    assert not [path for path in texts if b"hunter2" in path.read_bytes()]


def _networks(done: subprocess.CompletedProcess[str]) -> tuple[int, int]:
    """How many were trained, and how many had been before."""
    told = re.search(r"(\d+) members and sub-classifiers trained, (\d+) from cache", done.stdout)
    assert told
    return int(told[1]), int(told[2])


def _stop_when(user: dict[str, str], line: str) -> int:
    """Follow the log of the run `tonight`, and stop it after a line; the code of `stop`."""
    following = subprocess.Popen(
        [sys.executable, "-u", "-m", "jobs", "logs", "tonight", "-f"],
        stdout=subprocess.PIPE,
        text=True,
        env=user | {"PYTHONPATH": str(Path(__file__).parents[3])},
        cwd=user["HOME"],
    )
    assert following.stdout is not None
    for printed in following.stdout:
        if printed.startswith(line):
            break
    done = _call(user, "stop", "tonight")
    rest, _ = following.communicate(timeout=120)
    assert following.returncode == 0
    assert "tonight: stopped after" in rest
    assert "was stopped; `ensemble resume tonight` goes on with it" in done.stdout
    return done.returncode


@pytest.mark.nightly
def test_a_driver_that_fails_ends_the_waiting_command_with_its_own_code(
    user: dict[str, str], tiny_config: Path
) -> None:
    source = "images.source={kind: folder, path: /no/such/folder}"
    done = _call(user, "submit", str(tiny_config), source, "--name", "wrong", "--wait")
    assert done.returncode == 2
    assert "not shipped, the cluster's machines must have: /no/such/folder" in done.stdout
    assert "cannot read the image folder '/no/such/folder'" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.nightly
def test_a_follower_who_leaves_lets_the_run_go_on(user: dict[str, str], tiny_config: Path) -> None:
    endless = (*LONG, "cluster.shard_images=1")
    assert _call(user, "submit", str(tiny_config), *endless, "--name", "left").returncode == 0
    following = subprocess.Popen(
        [sys.executable, "-u", "-m", "jobs", "logs", "left", "-f"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=user | {"PYTHONPATH": str(Path(__file__).parents[3])},
        cwd=user["HOME"],
    )
    assert following.stdout is not None
    following.stdout.readline()
    following.send_signal(signal.SIGINT)
    _, errors = following.communicate(timeout=30)
    assert following.returncode == 130
    assert "left goes on without you" in errors
    assert "Traceback" not in errors
    assert json.loads(_call(user, "status", "left", "--json").stdout)["exit_code"] is None
    assert _call(user, "stop", "left").returncode == 0
