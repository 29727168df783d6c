"""A short way from Ray Serve's proxy to the ingress: a socket of this machine, in a folder that both know.

Ray Serve hands a request to the ingress in calls of actors, which take most of the CPU that a small request costs. The
proxy sends it over the socket instead, as HTTP. Where there is no socket, as on another machine or before a new
ingress is up, it goes Ray Serve's way, which waits for an ingress.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import uvicorn
from yarl import URL

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

VARIABLE = "ENSEMBLE_INGRESS_SOCKETS"
"""Environment variable with the folder of the sockets; none are made without it."""

_SUFFIX = ".sock"
_OF_SERVE = "/-/"  # routes that Ray Serve's proxy answers itself
_OF_A_CONNECTION = (b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"expect")
# The proxy closes a connection that nobody uses, so that the ingress never does while a request is sent.
_IDLE_S, _NEVER_S = 30, 86_400
_SMALL_BYTES = 1_000_000
_BACKLOG = 2048


@asynccontextmanager
async def listening(app: "ASGIApp") -> AsyncIterator[None]:
    """Answer what comes over a socket, until the block ends and the requests under way are answered."""
    folder = os.environ.get(VARIABLE)
    if folder is None:
        yield
        return
    path = Path(folder) / f"{os.getpid()}{_SUFFIX}"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    begun = path.with_suffix(".begun")
    begun.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(begun))
        listener.listen(_BACKLOG)
        begun.rename(path)  # nobody finds it before it listens
        config = uvicorn.Config(
            app,
            lifespan="off",
            access_log=False,
            log_config=None,
            timeout_keep_alive=_NEVER_S,
            date_header=False,  # the proxy has headers of its own
            server_header=False,
        )
        server = uvicorn.Server(config)
        answering = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            server.should_exit = True
            await answering


class ShortWay:
    """Sends requests over the socket of the ingress, and what cannot go there to the app behind.

    A request that is lost with the ingress gets no answer, as from the proxy of Ray Serve itself.

    Args:
        app: The app behind.
        folder: Folder of the sockets; everything goes to the app behind if None.
    """

    def __init__(self, app: "ASGIApp", folder: str | None) -> None:
        self._app, self._folder = app, folder
        self._path: Path | None = None  # of the session
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Handle a request."""
        is_ours = scope["type"] == "http" and not scope["path"].startswith(_OF_SERVE)
        session = await self._find() if is_ours else None
        if session is None:
            await self._app(scope, receive, send)
            return
        sent = _SentBody(receive, scope["headers"])
        try:
            async with session.request(
                scope["method"],
                _url(scope),
                headers=_headers(scope["headers"]),
                data=await sent.body(),
            ) as reply:
                content = await reply.read()
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, ConnectionRefusedError | FileNotFoundError):
                await self._forget()
            await self._app(scope, sent.again, send)
            return
        except (aiohttp.ClientError, ConnectionError):
            return  # lost with the ingress, or its client went away
        headers = [
            (name.lower(), value)
            for name, value in reply.raw_headers
            if name.lower() not in _OF_A_CONNECTION
        ]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _find(self) -> aiohttp.ClientSession | None:
        """Give what sends to the ingress that listens; None if there is none."""
        if self._session is None and self._folder is not None:
            paths = sorted(Path(self._folder).glob(f"*{_SUFFIX}"))
            if paths:
                self._path = paths[0]
                self._session = aiohttp.ClientSession(
                    connector=aiohttp.UnixConnector(
                        str(paths[0]), limit=0, keepalive_timeout=_IDLE_S
                    ),
                    timeout=aiohttp.ClientTimeout(total=None),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    auto_decompress=False,
                    skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
                )
        return self._session

    async def aclose(self) -> None:
        """Close the connections; the next request opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _forget(self) -> None:
        """Leave an ingress that is gone, and its socket."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        await self.aclose()


class _SentBody:
    """The body of a request: whole where it is small, a part at a time where it is not."""

    def __init__(self, receive: "Receive", headers: list[tuple[bytes, bytes]]) -> None:
        self._receive = receive
        self._kept: list[Message] = []
        length = dict(headers).get(b"content-length", b"")
        self._is_small = length.isdigit() and int(length) <= _SMALL_BYTES

    async def body(self) -> Any:
        """Give the body as the client of HTTP takes it."""
        if not self._is_small:
            return self._parts()
        return b"".join([part async for part in self._parts()]) or None

    async def again(self) -> "Message":
        """Give what was received again, then what is to come."""
        return self._kept.pop(0) if self._kept else await self._receive()

    async def _parts(self) -> AsyncIterator[bytes]:
        has_more = True
        while has_more:
            message = await self._receive()
            if self._is_small:
                self._kept.append(message)
            if message["type"] == "http.disconnect":
                raise ConnectionError
            has_more = message.get("more_body", False)
            yield message.get("body", b"")


def _url(scope: "Scope") -> URL:
    path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
    query = scope["query_string"].decode("latin-1")
    return URL(f"http://ingress{path}" + (f"?{query}" if query else ""), encoded=True)


def _headers(headers: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in headers
        if name not in _OF_A_CONNECTION
    ]
