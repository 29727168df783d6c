"""The short way to the ingress: nothing is changed on it, and what cannot go there goes the other way."""

import asyncio
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from cluster.ingress_socket import VARIABLE, ShortWay, listening
from cluster.lost_ingress import LostIngress


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    # Paths of sockets must be short.
    with tempfile.TemporaryDirectory(prefix="sockets-", dir="/tmp") as name:
        monkeypatch.setenv(VARIABLE, name)
        yield Path(name)


def _app(name: str) -> Starlette:
    async def answer(request: Request) -> JSONResponse:
        body = await request.body()
        document = {
            "by": name,
            "method": request.method,
            "path": request.scope["raw_path"].decode(),
            "query": request.url.query,
            "kind": request.headers.get("content-type"),
            "agent": request.headers.get("user-agent"),
            "sum": sum(body),
            "bytes": len(body),
        }
        return JSONResponse(document, 418, {"X-Mine": "yes"})

    return Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])


@dataclass
class Reply:
    """What an app sent."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        return json.loads(self.body)


async def _ask(
    app: Any, target: str, body: bytes = b"", method: str = "POST", kind: str = "image/png"
) -> Reply:
    """Call an app as a server does, with the body in parts."""
    path, _, query = target.partition("?")
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    scope = {
        "type": "http",
        "method": method,
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": headers,
    }
    parts = [body[start : start + 60_000] for start in range(0, max(len(body), 1), 60_000)]
    reply = Reply()

    async def receive() -> Any:
        if not parts:
            await asyncio.Event().wait()  # the client is there until it has its answer
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            reply.status = message["status"]
            reply.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            reply.body += message["body"]

    await app(scope, receive, send)
    return reply


async def _ask_short(folder: Path | str | None, target: str, **words: Any) -> Reply:
    place = None if folder is None else str(folder)
    async with aclosing(ShortWay(_app("behind"), place)) as app:
        return await _ask(app, target, **words)


FORM = b'--x\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\nabc\r\n--x--\r\n'
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "no body": ("/", {"method": "GET"}),
    "a small body": ("/v1/predict?top_k=1&x=%20%zz", {"body": b"\xff" * 1000}),
    "a large body": ("/v1/predict", {"body": os.urandom(3_000_000)}),
    "a quoted path": ("/v2/models/a%2Fb/..%2f/%E2%82%AC", {}),
    "a form": ("/v1/predict", {"body": FORM, "kind": "multipart/form-data; boundary=x"}),
}


@pytest.mark.parametrize(("path", "words"), REQUESTS.values(), ids=REQUESTS.keys())
def test_the_short_way_changes_nothing(folder: Path, path: str, words: dict[str, Any]) -> None:
    async def ask() -> tuple[Reply, Reply]:
        expected = await _ask(_app("ingress"), path, **words)
        async with listening(_app("ingress")):
            return expected, await _ask_short(folder, path, **words)

    expected, found = asyncio.run(ask())
    assert found.status == 418
    assert found.json() == expected.json()
    assert found.headers == expected.headers
    assert list(folder.iterdir()) == []


def test_without_a_socket_a_request_goes_the_other_way(folder: Path) -> None:
    for place in (None, str(folder)):
        assert asyncio.run(_ask_short(place, "/a")).json()["by"] == "behind"


def test_what_ray_serve_answers_itself_goes_the_other_way(folder: Path) -> None:
    async def ask() -> Reply:
        async with listening(_app("ingress")):
            return await _ask_short(folder, "/-/healthz")

    assert asyncio.run(ask()).json()["by"] == "behind"


def test_the_socket_of_an_ingress_that_is_gone_is_left(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(folder / "1.sock"))

    async def ask() -> list[Any]:
        async with aclosing(ShortWay(_app("behind"), str(folder))) as app:
            before = (await _ask(app, "/", body=b"\1" * 70_000)).json()
            async with listening(_app("ingress")):
                return [before, (await _ask(app, "/")).json()]

    before, after = asyncio.run(ask())
    assert (before["by"], before["sum"]) == ("behind", 70_000)
    assert after["by"] == "ingress"


def test_a_request_that_is_lost_with_the_ingress_may_be_sent_again(folder: Path) -> None:
    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async def ask() -> Reply:
        async with (
            await asyncio.start_unix_server(die, folder / "1.sock"),
            aclosing(ShortWay(_app("behind"), str(folder))) as app,
        ):
            return await _ask(LostIngress(app), "/", body=b"x")

    reply = asyncio.run(ask())
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")


def test_a_request_under_way_is_answered_before_the_end(folder: Path) -> None:
    async def ask() -> Reply:
        has_begun, may_answer = asyncio.Event(), asyncio.Event()

        async def answer(request: Request) -> JSONResponse:
            has_begun.set()
            await may_answer.wait()
            return JSONResponse({})

        app = Starlette(routes=[Route("/", answer)])
        async with listening(app):
            asking = asyncio.create_task(_ask_short(folder, "/", method="GET"))
            await has_begun.wait()
            asyncio.get_running_loop().call_later(0.05, may_answer.set)
        return await asking

    assert asyncio.run(ask()).status == 200
