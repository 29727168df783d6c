"""`ensemble serve`: what is refused before Ray is started; and, at night, a server that loses a replica."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import InferenceClient

from ensemble import predictor
from ensemble.errors import ConfigError
from jobs.serve import serve

from .artifacts import make_artifact, write_digits
from .killing import command_line, kill_marked, marked

pytestmark = pytest.mark.ray

STARTED_WITHIN_S = 120


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artifact(tmp_path_factory.mktemp("served"))


WRONG = {
    "everybody could ask": (["host=0.0.0.0"], "lets everybody ask.*ENSEMBLE_API_KEY"),
    "an unknown setting": (["prot=80"], "prot: no such setting. Did you mean 'port'"),
    "no port": (["port=70000"], "port"),
    "no number": (["max_batch=many"], "max_batch: expected a whole number"),
}


@pytest.mark.parametrize(("words", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_settings_are_one_message(artifact: Path, words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        serve(str(artifact), words, print)


def test_what_is_no_artifact_is_not_served(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no artifact"):
        serve(str(tmp_path), [], print)


@pytest.mark.nightly
def test_a_port_that_is_taken_is_one_message(artifact: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "jobs", "serve", str(artifact), f"port={port}"],
            capture_output=True,
            text=True,
            timeout=STARTED_WITHIN_S,
            check=False,
        )
    assert done.returncode == 1
    (message,) = [line for line in done.stderr.splitlines() if "Error" in line]
    assert message.startswith(f"ClusterError: cannot serve '{artifact}' at 127.0.0.1:{port}: ")
    assert "See that the port is free" in message
    assert "Traceback" not in done.stderr


@dataclass(frozen=True)
class Server:
    """A server in a process of its own; whatever it started carries its mark."""

    url: str
    process: subprocess.Popen[str]
    mark: str

    def replicas(self) -> list[int]:
        """Processes that predict."""
        return self.processes("Replica")

    def processes(self, deployment: str) -> list[int]:
        """Processes of a deployment."""
        name = f"ray::ServeReplica:ensemble:{deployment}"
        return [pid for pid in marked(self.mark) if command_line(pid).startswith(name)]


@pytest.fixture(scope="module")
def server(artifact: Path) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["-m", "jobs", "serve", str(artifact), f"port={port}", "replicas=2", "name=digits"]
    # Ray's sockets live below it, and paths of sockets must be short.
    mark = tempfile.mkdtemp(prefix="serve-", dir="/tmp")
    with subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": mark},
    ) as process:
        assert process.stdout is not None
        deadline = time.monotonic() + STARTED_WITHIN_S
        for line in process.stdout:
            assert time.monotonic() < deadline
            if line.startswith("ready"):
                break
        yield Server(f"http://127.0.0.1:{port}", process, mark)
        kill_marked(mark)
    shutil.rmtree(mark, ignore_errors=True)


def _ask(url: str, data: bytes) -> int:
    request = urllib.request.Request(f"{url}/v1/predict", data, {"Content-Type": "image/png"})
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            reply.read()
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.nightly
def test_a_client_of_hugging_face_gets_the_predictors_answer(
    server: Server, artifact: Path, tmp_path: Path
) -> None:
    write_digits(tmp_path, 4)
    for path in sorted(tmp_path.rglob("*.png"))[:4]:
        expected = predictor.load(artifact).predict(path).top(3)[0]
        found = InferenceClient(model=server.url).image_classification(path, top_k=3)
        assert [(line.label, line.score) for line in found] == [
            (label, float(np.float32(value))) for label, value in expected
        ]


@pytest.mark.nightly
def test_replicas_that_are_killed_lose_no_request(server: Server, tmp_path: Path) -> None:
    write_digits(tmp_path, 4)
    data = next(tmp_path.rglob("*.png")).read_bytes()
    with ThreadPoolExecutor(4) as pool:
        replies = [pool.submit(_ask, server.url, data) for _ in range(400)]
        kills = 0
        while not all(reply.done() for reply in replies):
            done = sum(reply.done() for reply in replies)
            if done >= 60 * (kills + 1) and (pids := server.replicas()):
                os.kill(pids[0], signal.SIGKILL)
                kills += 1
    assert kills >= 3
    assert {reply.result() for reply in replies} == {200}


@pytest.mark.nightly
def test_requests_that_are_lost_with_the_ingress_may_be_sent_again(
    server: Server, tmp_path: Path
) -> None:
    write_digits(tmp_path, 4)
    data = next(tmp_path.rglob("*.png")).read_bytes()
    with ThreadPoolExecutor(8) as pool:
        replies = [pool.submit(_ask, server.url, data) for _ in range(400)]
        kills = 0
        while not all(reply.done() for reply in replies):
            done = sum(reply.done() for reply in replies)
            if done >= 100 * (kills + 1) and (pids := server.processes("Ingress")):
                os.kill(pids[0], signal.SIGKILL)
                kills += 1
    assert kills >= 2
    statuses = Counter(reply.result() for reply in replies)
    assert set(statuses) == {200, 503}
    # No more than those that were under way.
    assert statuses[503] <= 8 * kills
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=60) as reply:
        assert f"ensemble_lost_requests_total {statuses[503]}\n" in reply.read().decode()


@pytest.mark.nightly
def test_ctrl_c_ends_it_without_an_error(server: Server) -> None:
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(60) == 0
