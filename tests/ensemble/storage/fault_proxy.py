"""An HTTP proxy on loopback that fails, by seed, as networks and stores do."""

import asyncio
import random
import threading
import time
from collections import Counter
from email.utils import formatdate

FAULTS = ("503", "reset", "truncated", "lost reply", "flipped bit")
_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>slow down</Message></Error>"
_SKEWED = b"<Error><Code>RequestTimeTooSkewed</Code><Message>too large</Message></Error>"
_PORTAL = b"<html><head><title>Welcome</title></head><body><p>Please log in.</p></body></html>"


class FaultProxy:
    """Forwards to one server; a share of the requests meets a fault. Use as a context manager."""

    def __init__(
        self, port: int, share: float, seed: int, faults: tuple[str, ...] = FAULTS
    ) -> None:
        self._target, self._share, self._faults = port, share, faults
        self._rng = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.injected: Counter[str] = Counter()
        self.body_bytes = 0  # of answers to GET

    def __enter__(self) -> "FaultProxy":
        self._thread.start()
        serve = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(serve, self._loop).result()
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request, head = await _message(reader, writer)
            fault = self._draw(head)
            if fault == "portal":
                writer.write(_answer(b"200 OK", b"" if head.startswith(b"HEAD") else _PORTAL))
            elif fault.endswith(" s ahead"):
                writer.write(_skewed(float(fault.split()[0]), head.startswith(b"HEAD")))
            elif fault == "503":
                writer.write(_answer(b"503 Slow Down", _SLOW_DOWN))
            elif fault != "reset":
                if fault == "flipped upload" and head.startswith(b"PUT"):
                    request = request[:-1] + bytes([request[-1] ^ 1])
                reply, body = await self._forward(request)
                if head.startswith(b"GET"):
                    self.body_bytes += len(body)
                writer.write(self._spoil(reply, body, fault))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        writer.close()

    def _draw(self, head: bytes) -> str:
        fault = self._rng.choice(self._faults) if self._rng.random() < self._share else ""
        # A list of names has no digest, so only objects are flipped.
        if fault == "flipped bit" and (not head.startswith(b"GET") or b"list-type" in head):
            fault = "reset"
        self.injected[fault] += bool(fault)
        return fault

    async def _forward(self, request: bytes) -> tuple[bytes, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._target)
        writer.write(request)
        whole = await reader.read()
        writer.close()
        head, _, body = whole.partition(b"\r\n\r\n")
        return head + b"\r\n\r\n", body

    def _spoil(self, head: bytes, body: bytes, fault: str) -> bytes:
        if fault == "lost reply":
            return b""
        if fault == "truncated":
            return (head + body)[: len(head) + len(body) // 2] if body else b""
        if fault == "flipped bit" and body:
            flipped = bytearray(body)
            flipped[self._rng.randrange(len(body))] ^= 1 << self._rng.randrange(8)
            return head + bytes(flipped)
        if fault == "chunked":
            return _in_chunks(head, body)
        return head + body


def _in_chunks(head: bytes, body: bytes) -> bytes:
    """The same answer without its size, as some gateways send it."""
    lines = [
        line
        for line in head.split(b"\r\n")[:-2]
        if not line.lower().startswith((b"content-length", b"transfer-encoding"))
    ]
    if body:
        lines.append(b"Transfer-Encoding: chunked")
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return b"\r\n".join([*lines, b"", b""]) + body


async def _message(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[bytes, bytes]:
    """A whole request, asking for one answer and no more; and its head."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = [
        line for line in head.split(b"\r\n")[:-2] if not line.lower().startswith(b"connection")
    ]
    fields = {line.split(b":", 1)[0].lower(): line.split(b":", 1)[1].strip() for line in lines[1:]}
    body = b""
    if b"100-continue" in fields.get(b"expect", b""):
        lines = [line for line in lines if not line.lower().startswith(b"expect")]
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if size := int(fields.get(b"content-length", b"0")):
        body = await reader.readexactly(size)
    while b"chunked" in fields.get(b"transfer-encoding", b""):
        line = await reader.readline()
        chunk = await reader.readexactly(int(line.split(b";")[0], 16) + 2)
        body += line + chunk
        if len(chunk) == 2:
            break
    return b"\r\n".join([*lines, b"Connection: close", b"", b""]) + body, head


def _skewed(seconds: float, is_bare: bool) -> bytes:
    """The refusal of a store whose clock is so many seconds ahead."""
    date = b"403 Forbidden\r\nDate: %b" % formatdate(time.time() + seconds, usegmt=True).encode()
    return _answer(date, b"" if is_bare else _SKEWED)


def _answer(status: bytes, body: bytes) -> bytes:
    length = str(len(body)).encode()
    return b"HTTP/1.1 %b\r\nConnection: close\r\nContent-Length: %b\r\n\r\n%b" % (
        status,
        length,
        body,
    )
