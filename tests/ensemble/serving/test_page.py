"""The page in a browser without a window: an image is chosen as a user does, and the answers are seen."""

import asyncio
import json
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import uvicorn
from PIL import Image

from ensemble import predictor
from ensemble.serving.app import make_app
from ensemble.serving.here import LocalService
from ensemble.serving.settings import ServingConfig

from ...jobs.artifacts import make_artifact

pytestmark = pytest.mark.nightly

_STARTED = "DevTools listening on "
_SHOWN = "document.getElementById('message').textContent"
_ANSWERED_WITHIN_S = 60


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artifact(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def url(artifact: Path) -> Iterator[str]:
    app = make_app(LocalService(artifact, "digits"), ServingConfig())
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[str]:
    """The address of a browser's remote control."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium is installed")
    words = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0")
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        subprocess.Popen(
            [program, *words, f"--user-data-dir={profile}", "about:blank"],
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith(_STARTED):
                break
        yield line.removeprefix(_STARTED).strip()
        process.kill()


class Tab:
    """A tab, by the protocol of a browser's own tools."""

    def __init__(self, connection: aiohttp.ClientWebSocketResponse) -> None:
        self._connection, self._number, self._session = connection, 0, None

    async def open(self, url: str) -> None:
        target = await self.call("Target.createTarget", url=url)
        attached = await self.call("Target.attachToTarget", **target, flatten=True)
        self._session = attached["sessionId"]
        await self.until("document.readyState + ' ' + location.href", f"complete {url}")

    async def call(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        await self._connection.send_json(message)
        while (reply := await self._connection.receive_json()).get("id") != self._number:
            pass
        assert "error" not in reply, reply
        return reply["result"]

    async def value(self, expression: str) -> Any:
        return (await self.call("Runtime.evaluate", expression=expression))["result"].get("value")

    async def until(self, expression: str, start: str) -> str:
        async with asyncio.timeout(_ANSWERED_WITHIN_S):
            while not str(found := await self.value(expression)).startswith(start):
                await asyncio.sleep(0.05)  # a browser tells of no change of a text
        return str(found)

    async def choose(self, path: Path) -> None:
        document = await self.call("DOM.getDocument")
        node = await self.call(
            "DOM.querySelector", nodeId=document["root"]["nodeId"], selector="#file"
        )
        await self.call("DOM.setFileInputFiles", files=[str(path)], **node)


async def _upload(browser: str, url: str, *paths: Path) -> list[tuple[str, list[str]]]:
    """Choose files one after the other; give what the page says of each, and the rows of its tables."""
    rows = "JSON.stringify([...document.querySelectorAll('#answer th')].map(e => e.textContent))"
    said = []
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(browser, max_msg_size=0) as connection,
    ):
        tab = Tab(connection)
        await tab.open(url)
        for path in paths:
            await tab.value("document.getElementById('message').textContent = 'waiting'")
            await tab.choose(path)
            message = await tab.until(_SHOWN, "The answer" if path.suffix == ".png" else "image 0")
            said.append((message, json.loads(await tab.value(rows))))
    return said


def test_an_image_that_is_chosen_is_answered_with_the_members_votes(
    browser: str, url: str, artifact: Path, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    image, text = tmp_path / "image.png", tmp_path / "text.txt"
    Image.fromarray(pixels).save(image)
    text.write_text("no image")
    expected = predictor.load(artifact).predict(pixels)
    (answer, rows), (refusal, none) = asyncio.run(_upload(browser, url, image, text))
    assert answer == f"The answer is {expected.labels[0]}."
    assert rows[:5] == [label for label, _ in expected.top(5)[0]]
    votes = expected.explain(0).votes
    assert rows[5:] == [f"{name}: {label}" for name, (label, _) in votes.items()]
    assert "cannot be decoded" in refusal
    assert none == []
