"""The proxy's answer where the ingress dies with a request: 503 with Retry-After, counted in the metrics."""

import asyncio
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from cluster.ingress_socket import ShortWay
from cluster.lost_ingress import LostIngress, middlewares


async def _behind(scope: Any, receive: Any, send: Any) -> None:
    """An ingress that dies with what is asked at /dies, as Ray Serve's proxy sees it: without an answer."""
    if scope["type"] == "http" and scope["path"] == "/dies":
        while (await receive()).get("more_body"):
            pass
        return
    await _app(scope, receive, send)


async def _answer(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"answered {len(await request.body())}\n")


_app = Starlette(routes=[Route("/{name}", _answer, methods=["GET", "POST"])])


def test_a_lost_request_may_be_sent_again_and_is_counted() -> None:
    assert [middleware.cls for middleware in middlewares()] == [ShortWay, LostIngress]
    client = TestClient(LostIngress(_behind))
    assert client.post("/lives", content=b"abc").text == "answered 3\n"
    for _ in range(2):
        reply = client.post("/dies", content=b"abc")
        assert reply.status_code == 503
        assert reply.headers["retry-after"] == "1"
        assert "send it again" in reply.json()["error"]
    metrics = client.get("/metrics")
    assert metrics.text.startswith("answered 0\n# HELP")
    assert metrics.text.endswith("ensemble_lost_requests_total 2\n")


def test_a_client_that_went_away_is_not_counted() -> None:
    lost, sent = LostIngress(_behind), list[Any]()

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(lost({"type": "http", "path": "/dies"}, receive, send))
    assert sent == []
    assert TestClient(lost).get("/metrics").text.endswith("ensemble_lost_requests_total 0\n")


def test_what_is_no_request_goes_through() -> None:
    with TestClient(LostIngress(_behind)) as client:  # the start and the end of the app's life
        assert client.get("/lives").status_code == 200
