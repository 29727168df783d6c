"""The app on an artifact in this process: three protocols with one answer, and what is refused."""

import asyncio
import base64
import io
import json
import random
import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from ensemble import predictor
from ensemble.cascade.steps import Steps
from ensemble.serving.app import make_app
from ensemble.serving.here import LocalService
from ensemble.serving.service import Answer
from ensemble.serving.settings import ServingConfig

from ...jobs.artifacts import make_artifact

PNG = {"content-type": "image/png"}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artifact(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def client(artifact: Path) -> Iterator[TestClient]:
    config = ServingConfig(max_body_mb=0.5, max_images=3, max_pixels=100_000)
    with TestClient(make_app(LocalService(artifact, "digits"), config)) as client:
        yield client


def encode(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = ((16, 16), (20, 31))
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def text(image: np.ndarray) -> str:
    return base64.b64encode(encode(image)).decode()


def test_every_way_to_ask_gets_the_same_digits(
    client: TestClient, artifact: Path, images: list[np.ndarray]
) -> None:
    loaded = predictor.load(artifact)
    for image in images:
        expected = loaded.predict(image)
        probabilities = expected.probabilities[0].astype(np.float32).tolist()
        best = expected.top(3)[0]
        data, ask = encode(image), "/v1/predict?top_k=3&probabilities=true"
        form = {"top_k": "3", "probabilities": "true"}
        document = {"images": [text(image)], "top_k": 3, "probabilities": True}
        for reply in (
            client.post(ask, content=data, headers=PNG),
            client.post(ask, content=data),
            client.post("/v1/predict", files={"a": data}, data=form),
            client.post("/v1/predict", json=document),
        ):
            assert reply.status_code == 200, reply.text
            (answer,) = reply.json()["predictions"]
            assert answer["label"] == expected.labels[0]
            assert answer["probabilities"] == probabilities
            assert [line["label"] for line in answer["top"]] == [label for label, _ in best]
        wanted = [{"label": label, "score": float(np.float32(value))} for label, value in best]
        inputs = {"inputs": text(image), "parameters": {"top_k": 3}}
        assert client.post("/", json=inputs).json() == wanted
        assert client.post("/", content=data, headers=PNG).json()[:3] == wanted
        for reply in (_infer_encoded(client, data), _infer_pixels(client, image)):
            assert reply.status_code == 200, reply.text
            outputs = {output["name"]: output for output in reply.json()["outputs"]}
            assert outputs["probabilities"]["data"] == probabilities
            assert outputs["label"]["data"] == [expected.labels[0]]


def _infer_encoded(client: TestClient, data: bytes) -> Any:
    """As Triton's client sends bytes: behind the JSON, each with its length."""
    binary = len(data).to_bytes(4, "little") + data
    parameters = {"binary_data_size": len(binary)}
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": parameters}
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    return client.post("/v2/models/digits/infer", content=head + binary, headers=headers)


def _infer_pixels(client: TestClient, image: np.ndarray) -> Any:
    shape, data = [1, *image.shape], image.reshape(-1).tolist()
    tensor = {"name": "image", "datatype": "UINT8", "shape": shape, "data": data}
    return client.post("/v2/models/digits/infer", json={"inputs": [tensor]})


def test_several_images_are_answered_in_their_order(
    client: TestClient, images: list[np.ndarray]
) -> None:
    document = {"images": [text(image) for image in images], "explain": True}
    together = client.post("/v1/predict", json=document).json()["predictions"]
    alone = [
        client.post("/v1/predict?explain=true", content=encode(image)).json()["predictions"][0]
        for image in images
    ]
    assert [line["label"] for line in together] == [line["label"] for line in alone]
    assert together[0]["votes"].keys() == alone[0]["votes"].keys()
    tensor = {"name": "image", "datatype": "BYTES", "shape": [2], "data": document["images"]}
    body = {"id": "7", "inputs": [tensor], "outputs": [{"name": "label"}]}
    reply = client.post("/v2/models/digits/infer", json=body).json()
    assert reply["id"] == "7"
    (output,) = reply["outputs"]
    assert output["data"] == [line["label"] for line in alone]


def test_answers_of_a_cascade_say_their_step_and_the_metrics_count_them(
    tmp_path: Path, images: list[np.ndarray]
) -> None:
    surest = predictor.load(make_artifact(tmp_path / "whole")).predict(images).by_member
    values = surest["alexnet_small"].max(axis=1)
    steps = Steps((0, 1), "confidence", np.array([values.mean(), -np.inf]))
    artifact = make_artifact(tmp_path / "steps", steps)
    found = predictor.load(artifact).predict(images)
    expected = found.exits
    assert expected is not None
    assert sorted(expected) == [1, 2]
    with TestClient(make_app(LocalService(artifact, "steps"), ServingConfig())) as client:
        document = {"images": [text(image) for image in images], "explain": True}
        answers = client.post("/v1/predict", json=document).json()["predictions"]
        assert [answer["step"] for answer in answers] == expected.tolist()
        assert [tuple(answer["set"]) for answer in answers] == [found.set_of(0), found.set_of(1)]
        assert [len(answer["votes"]) for answer in answers] == expected.tolist()
        metrics = client.get("/metrics").text
        assert client.get("/readyz").status_code == 200
    assert 'ensemble_cascade_exits_total{step="1"} 1.0' in metrics
    assert 'ensemble_cascade_exits_total{step="2"} 1.0' in metrics


HUGE = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xff\xdc\0\0\xff\xdc\x08\2\0\0\0" + b"\0" * 40
WRONG: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "nothing": ("/v1/predict", {"content": b""}, 400, "cannot be decoded"),
    "no image": ("/v1/predict", {"content": b"GIF89a nonsense"}, 400, "cannot be decoded"),
    "a huge header": ("/v1/predict", {"content": HUGE}, 400, "cannot be decoded"),
    "a large body": ("/v1/predict", {"content": b"\0" * 600_000}, 413, "500,000 at most"),
    "another type": (
        "/v1/predict",
        {"content": b"<a/>", "headers": {"content-type": "text/xml"}},
        415,
        "text/xml",
    ),
    "no JSON": (
        "/",
        {"content": b"{", "headers": {"content-type": "application/json"}},
        400,
        "JSON",
    ),
    "deep JSON": (
        "/v1/predict",
        {"content": b"[" * 100_000, "headers": {"content-type": "application/json"}},
        400,
        "JSON",
    ),
    "no base64": ("/v1/predict", {"json": {"image": "§"}}, 400, "image is no base64"),
    "an unknown field": ("/v1/predict", {"json": {"imag": "x"}}, 400, "no field 'imag'"),
    "both": ("/v1/predict", {"json": {"image": "x", "images": []}}, 400, "either image or images"),
    "no images": ("/v1/predict", {"json": {"images": []}}, 400, "0 images"),
    "too many": ("/v1/predict", {"json": {"images": ["aGk="] * 4}}, 400, "4 images"),
    "a path": ("/v1/predict", {"json": {"image": "../../etc/passwd"}}, 400, "no base64"),
    "top_k": ("/v1/predict?top_k=0", {"content": b"x"}, 400, "top_k is '0'"),
    "a form without a file": ("/v1/predict", {"data": {"top_k": "1"}}, 415, "urlencoded"),
    "another function": (
        "/",
        {"json": {"inputs": "aGk=", "parameters": {"function_to_apply": "sigmoid"}}},
        400,
        "expected softmax",
    ),
    "another model": ("/v2/models/other/infer", {"json": {}}, 404, "expected 'digits'"),
    "no input": ("/v2/models/digits/infer", {"json": {"inputs": []}}, 400, "inputs"),
    "another shape": (
        "/v2/models/digits/infer",
        {
            "json": {
                "inputs": [
                    {"name": "image", "datatype": "UINT8", "shape": [1, 2, 2, 3], "data": [1]}
                ]
            }
        },
        400,
        "there are 1 numbers",
    ),
}


@pytest.mark.parametrize(
    ("path", "request_", "status", "message"), WRONG.values(), ids=WRONG.keys()
)
def test_what_is_wrong_is_one_message(
    client: TestClient, path: str, request_: dict[str, Any], status: int, message: str
) -> None:
    reply = client.post(path, **request_)
    assert (reply.status_code, message in reply.json()["error"]) == (status, True), reply.text


def test_a_damaged_request_is_the_clients_fault(
    client: TestClient, images: list[np.ndarray]
) -> None:
    rng = random.Random(0)
    bodies = [encode(images[0], kind) for kind in ("PNG", "JPEG", "WEBP", "BMP")]
    bodies.append(json.dumps({"images": [text(images[1])]}).encode())
    kinds = (
        "image/png",
        "application/json",
        "multipart/form-data; boundary=x",
        "application/octet-stream",
    )
    paths = ("/v1/predict", "/", "/v2/models/digits/infer")
    for _ in range(300):
        body = bytearray(rng.choice(bodies))
        for _ in range(rng.randrange(4)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        body = body[: rng.choice((len(body), rng.randrange(len(body))))]
        headers = {"content-type": rng.choice(kinds)}
        reply = client.post(rng.choice(paths), content=bytes(body), headers=headers)
        assert reply.status_code == 200 or 400 <= reply.status_code < 500, reply.text


def test_a_key_is_asked_for_everywhere_but_for_health(artifact: Path) -> None:
    app = make_app(LocalService(artifact, "digits"), ServingConfig(), key="secret")
    with TestClient(app) as client:
        assert client.get("/livez").status_code == 200
        for path in ("/", "/metrics", "/v2"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers={"Authorization": "Bearer secret"}).status_code == 200


def test_a_corrupted_weight_file_makes_the_server_unready(artifact: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(artifact, tmp_path / "ensemble"))
    with TestClient(make_app(LocalService(copy, "digits"), ServingConfig())) as client:
        (path,) = copy.glob("members/alexnet_small-*")
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        reply = client.get("/readyz")
        assert reply.status_code == 503
        assert path.name in reply.json()["problems"][0]
        assert client.get("/v2/health/ready").status_code == 503


class HeldService(LocalService):
    """Answers once it is told to."""

    def __init__(self, artifact: Path) -> None:
        super().__init__(artifact, "digits")
        self.has_begun, self.may_answer = threading.Event(), threading.Event()

    async def answer(self, images: Sequence[np.ndarray]) -> list[Answer | str]:
        self.has_begun.set()
        await asyncio.to_thread(self.may_answer.wait)
        return await super().answer(images)


def test_more_requests_than_may_wait_are_told_to_come_again(
    artifact: Path, images: list[np.ndarray]
) -> None:
    service, data = HeldService(artifact), encode(images[0])
    with (
        TestClient(make_app(service, ServingConfig(max_queue=1))) as client,
        ThreadPoolExecutor(1) as other,
    ):
        first = other.submit(client.post, "/v1/predict", content=data)
        service.has_begun.wait()
        refused = client.post("/v1/predict", content=data)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        service.may_answer.set()
        assert first.result().status_code == 200
        assert (
            'ensemble_requests_total{protocol="plain",status="503"} 1.0'
            in client.get("/metrics").text
        )


def test_the_page_and_the_description_are_there(client: TestClient) -> None:
    page = client.get("/")
    assert "Drop an image here" in page.text
    assert "/v1/predict" in client.get("/openapi.json").json()["paths"]
    assert client.get("/v2/models/digits").json()["outputs"][0]["shape"] == [-1, 10]
