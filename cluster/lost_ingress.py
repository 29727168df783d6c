"""What the proxy of Ray Serve answers where the ingress dies with a request: that it may be sent again.

The proxy itself gives no answer then, and its server makes a 500 of that, which clients do not send again.
Predicting changes nothing, so that any request may be. Ray Serve calls `middlewares` in the process of the proxy.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from starlette.middleware import Middleware

from cluster import ingress_socket
from cluster.ingress_socket import ShortWay
from cluster.session_folder import temporary_folder

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

VARIABLE = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
"""Environment variable by which Ray Serve finds the middlewares of its proxy; it is read where Ray starts."""

IMPORT_PATH = "cluster.lost_ingress:middlewares"

FEWER_THREADS = {
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1000",
}
"""Fewer threads that a request is handed from one to another, as Ray Serve's own switch for throughput sets them.

Nothing of ours blocks a loop, because networks run in a thread of the service's own.
"""

RETRY_AFTER_S = 1
_METRICS = "/metrics"
_BODY = b'{"error":"the server lost this request with a process of its own; send it again."}'


def middlewares() -> list[Middleware]:
    """Give the middlewares of the proxy, as Ray Serve calls for them."""
    folder = os.environ.get(ingress_socket.VARIABLE)
    # The last one is the outermost, and sees what is lost on either way.
    return [Middleware(ShortWay, folder=folder), Middleware(LostIngress)]


@contextmanager
def serving_environment() -> Iterator[None]:
    """Let a Ray that starts in the block answer a request that is lost with the ingress by 503, and the short way.

    A cluster that is there must have the variables in the environment of its nodes.
    """
    with tempfile.TemporaryDirectory(prefix="serve-", dir=temporary_folder()) as folder:
        ours = {VARIABLE: IMPORT_PATH, ingress_socket.VARIABLE: folder, **FEWER_THREADS}
        added = {name: value for name, value in ours.items() if name not in os.environ}
        os.environ.update(added)
        try:
            yield
        finally:
            for name in added:
                del os.environ[name]


class LostIngress:
    """Answers 503 with Retry-After where the app behind ends without an answer, and counts that in `/metrics`.

    Args:
        app: The app behind.
    """

    def __init__(self, app: "ASGIApp") -> None:
        self._app = app
        self._lost = 0

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_begun = is_gone = False
        adds_count = scope["path"] == _METRICS

        async def watch() -> "Message":
            nonlocal is_gone
            message = await receive()
            is_gone = is_gone or message["type"] == "http.disconnect"
            return message

        async def forward(message: "Message") -> None:
            nonlocal has_begun
            has_begun = True
            await send(self._with_count(message) if adds_count else message)

        await self._app(scope, watch, forward)
        if not has_begun and not is_gone:
            self._lost += 1
            await _answer(send)

    def _with_count(self, message: "Message") -> "Message":
        if message["type"] == "http.response.start":
            headers = [pair for pair in message["headers"] if pair[0].lower() != b"content-length"]
            return {**message, "headers": headers}
        if message["type"] == "http.response.body" and not message.get("more_body"):
            text = (
                "# HELP ensemble_lost_requests_total Requests that were lost with the ingress, and answered by 503.\n"
                "# TYPE ensemble_lost_requests_total counter\n"
                f"ensemble_lost_requests_total {self._lost}\n"
            )
            return {**message, "body": message.get("body", b"") + text.encode()}
        return message


async def _answer(send: "Send") -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(_BODY)).encode()),
        (b"retry-after", str(RETRY_AFTER_S).encode()),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": _BODY})
