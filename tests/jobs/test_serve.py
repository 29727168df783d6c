"""`ensemble serve`: what is refused before Ray is started; and, at night, a server that loses a replica."""

import asyncio
import http.client
import io
import json
import os
import random
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
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import InferenceClient
from PIL import Image

from ensemble import predictor
from ensemble.errors import ConfigError
from jobs.serve import serve

from .artifacts import make_artifact, write_digits
from .killing import command_line, kill_marked, marked

pytestmark = pytest.mark.ray

STARTED_WITHIN_S = 300
# A process that replaces a killed one loads torch first, which takes minutes beside many other programs.
ANSWERED_WITHIN_S = 600
_PROTOCOLS = ("/v1/predict", "/", "/v2/models/digits/infer")


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
        try:
            deadline = time.monotonic() + STARTED_WITHIN_S
            for line in process.stdout:
                assert time.monotonic() < deadline
                if line.startswith("ready"):
                    break
            yield Server(f"http://127.0.0.1:{port}", process, mark)
        finally:
            kill_marked(mark)
    shutil.rmtree(mark, ignore_errors=True)


def _ask(url: str, data: bytes, path: str = "/v1/predict", kind: str = "image/png") -> int:
    request = urllib.request.Request(url + path, data, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=ANSWERED_WITHIN_S) as reply:
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
def test_the_client_of_triton_gets_the_predictors_answer(
    server: Server, artifact: Path, tmp_path: Path
) -> None:
    triton = pytest.importorskip("tritonclient.http")
    write_digits(tmp_path, 4)
    paths = sorted(tmp_path.rglob("*.png"))[:4]
    expected = predictor.load(artifact).predict(paths)
    probabilities = expected.probabilities.astype(np.float32)
    client = triton.InferenceServerClient(server.url.removeprefix("http://"))
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.get_model_metadata("digits")["outputs"][0]["shape"] == [-1, 10]
    encoded = np.array([path.read_bytes() for path in paths], dtype=np.object_)
    pixels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
    for kind, value in (("BYTES", encoded), ("UINT8", pixels)):
        for is_binary in (True, False):
            # In JSON, bytes must be text: this client has no way to send an image there.
            if kind == "BYTES" and not is_binary:
                continue
            image = triton.InferInput("image", list(value.shape), kind)
            image.set_data_from_numpy(value, binary_data=is_binary)
            outputs = [
                triton.InferRequestedOutput(name, binary_data=False)
                for name in ("probabilities", "label")
            ]
            for wanted in (outputs, None):
                answer = client.infer("digits", [image], outputs=wanted, request_id="7")
                assert answer.get_response()["id"] == "7"
                np.testing.assert_array_equal(answer.as_numpy("probabilities"), probabilities)
                labels = [_text(label) for label in answer.as_numpy("label").tolist()]
                assert labels == list(expected.labels)
    client.close()


def _text(label: str | bytes) -> str:
    return label.decode() if isinstance(label, bytes) else label


@pytest.mark.nightly
def test_the_client_of_kserve_gets_the_predictors_answer(
    server: Server, artifact: Path, tmp_path: Path
) -> None:
    kserve = pytest.importorskip("kserve")
    write_digits(tmp_path, 4)
    paths = sorted(tmp_path.rglob("*.png"))[:2]
    expected = predictor.load(artifact).predict(paths)
    pixels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])

    async def ask() -> object:
        config = kserve.inference_client.RESTConfig(protocol="v2")
        client = kserve.InferenceRESTClient(config)
        assert await client.is_server_ready(server.url)
        image = kserve.InferInput("image", list(pixels.shape), "UINT8")
        image.set_data_from_numpy(pixels, binary_data=False)
        request = kserve.InferRequest(model_name="digits", infer_inputs=[image])
        return await client.infer(server.url, request, model_name="digits")

    answer = asyncio.run(ask())
    (probabilities,) = [one for one in answer.outputs if one.name == "probabilities"]  # type: ignore[attr-defined]
    np.testing.assert_array_equal(
        probabilities.as_numpy(), expected.probabilities.astype(np.float32)
    )


@pytest.mark.nightly
def test_a_thousand_hostile_requests_are_refused_within_bounded_memory(
    server: Server, tmp_path: Path
) -> None:
    write_digits(tmp_path, 4)
    rng = random.Random(0)
    photograph = _photograph()
    huge = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (65500).to_bytes(4, "big") * 2 + b"\x08\2\0\0\0"
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 65500, 65500, 3], "data": [1]}
    hostile: list[tuple[bytes, str, str]] = []
    for number in range(1000):
        path = _PROTOCOLS[number % 3]
        hostile.append(
            (
                (photograph[: rng.randrange(len(photograph) - 100)], path, "image/jpeg"),
                (huge + b"\0" * rng.randrange(100), path, "image/png"),
                (b"<html>", path, rng.choice(("text/html", "application/json", "video/mp4"))),
                (b'{"image": "../../etc/passwd", "images": 1}', path, "application/json"),
                (b"x", f"/v2/models/..%2f..%2f{number}/infer", "application/json"),
                (json.dumps({"inputs": [tensor]}).encode(), path, "application/json"),
                (rng.randbytes(rng.randrange(3000)), path, "multipart/form-data; boundary=x"),
            )[number % 7]
        )
    large = b"\0" * 50_000_000
    with ThreadPoolExecutor(8) as pool:
        before = _memory_mb(server)
        statuses = Counter(
            reply.result() for reply in [pool.submit(_ask, server.url, *one) for one in hostile]
        )
        for _ in range(20):
            statuses[_ask_large(server.url, large)] += 1
        after = _memory_mb(server)
    assert sum(statuses.values()) == 1020
    assert all(400 <= status < 500 for status in statuses), statuses
    assert after - before < 300
    assert _ask(server.url, next(tmp_path.rglob("*.png")).read_bytes()) == 200


def _photograph() -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def _ask_large(url: str, data: bytes) -> int:
    """Send more than is allowed; a server may answer and hang up before it has all of it."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    with suppress(ConnectionError):
        connection.request("POST", "/v1/predict", data, {"Content-Type": "image/png"})
    status = connection.getresponse().status
    connection.close()
    return status


def _memory_mb(server: Server) -> float:
    """Memory of the proxy, the ingress and the replicas."""
    names = ("ray::ProxyActor", "ray::ServeReplica")
    pids = [pid for pid in marked(server.mark) if command_line(pid).startswith(names)]
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.nightly
def test_replicas_that_are_killed_lose_no_request(server: Server, tmp_path: Path) -> None:
    write_digits(tmp_path, 4)
    data = next(tmp_path.rglob("*.png")).read_bytes()
    with ThreadPoolExecutor(4) as pool:
        replies = [pool.submit(_ask, server.url, data) for _ in range(400)]
        kills = 0
        while (done := len(wait(replies, timeout=0.01).done)) < len(replies):
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
        while (done := len(wait(replies, timeout=0.01).done)) < len(replies):
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
