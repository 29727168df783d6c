"""Published files, from a mirror and from a server on the loopback; nothing here reaches a network."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch.hub

from ensemble.errors import CheckpointError
from ensemble.members.source_settings import WeightsConfig
from ensemble.pretrained.published_file import PublishedFile, check_sha256, fetch, find

CONTENT = b"weights, as it were"
DIGEST = sha256(CONTENT).hexdigest()
NAME = f"net-{DIGEST[:8]}.pth"
HUB_NAME = "org/net/model.safetensors"


class Hub(SimpleHTTPRequestHandler):
    """Files of a folder, with the headers of the Hugging Face hub."""

    def end_headers(self) -> None:
        self.send_header("X-Repo-Commit", "c" * 40)
        self.send_header("ETag", f'"{DIGEST}"')
        super().end_headers()

    def log_message(self, format: str, *words: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    root = tmp_path / "served"
    for name in (NAME, "org/net/resolve/main/model.safetensors"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(CONTENT)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, directory=str(root))) as serving:
        Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Path]:
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path / "cache"))
    yield tmp_path / "cache"
    torch.hub.set_dir(before)


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    (tmp_path / "mirror").mkdir()
    return tmp_path / "mirror"


def test_file_is_downloaded_once_and_checked(server: str, cache: Path) -> None:
    file = PublishedFile(NAME, f"{server}/{NAME}", sha256=DIGEST[:8])
    assert find(file, WeightsConfig()) is None
    path = fetch(file, WeightsConfig())
    assert path.read_bytes() == CONTENT
    assert path.is_relative_to(cache)
    assert find(replace(file, url="http://127.0.0.1:9/gone"), WeightsConfig()) == path


def test_download_of_another_file_is_refused(server: str, cache: Path) -> None:
    file = PublishedFile(NAME, f"{server}/{NAME}", sha256="0" * 64)
    with pytest.raises(CheckpointError, match=rf"sha256 is {DIGEST[:16]}…, expected 0000"):
        fetch(file, WeightsConfig())


@pytest.mark.parametrize("path", ["nothing.pth", "http://127.0.0.1:9/x.pth"])
def test_download_that_fails_says_what_was_looked_for_where(
    server: str, cache: Path, path: str
) -> None:
    url = path if path.startswith("http") else f"{server}/{path}"
    with pytest.raises(
        CheckpointError, match=r"'x\.pth' are not on this machine and cannot"
    ) as caught:
        fetch(PublishedFile("x.pth", url), WeightsConfig())
    assert url in str(caught.value)
    assert "weights.mirror" in str(caught.value)


@pytest.mark.parametrize("place", [NAME, DIGEST])
def test_mirror_has_a_file_by_name_or_digest(mirror: Path, place: str) -> None:
    (mirror / place).write_bytes(CONTENT)
    file = PublishedFile(NAME, "http://127.0.0.1:9/gone", sha256=DIGEST)
    assert fetch(file, WeightsConfig(mirror=mirror)) == mirror / place


def test_mirror_has_a_file_by_all_of_its_digest_where_the_pin_is_short(mirror: Path) -> None:
    (mirror / DIGEST).write_bytes(CONTENT)
    file = PublishedFile("org/net/model.safetensors", sha256=DIGEST[:12])
    assert fetch(file, WeightsConfig(mirror=mirror)) == mirror / DIGEST


def test_mirror_has_the_index_of_a_file_in_shards(mirror: Path) -> None:
    index = mirror / "org" / "net" / "model.safetensors.index.json"
    index.parent.mkdir(parents=True)
    index.write_text("{}")
    file = PublishedFile("org/net/model.safetensors")
    assert fetch(file, WeightsConfig(mirror=mirror)) == index


def test_mirror_has_a_file_of_the_hub_by_its_whole_name(mirror: Path) -> None:
    (mirror / "org" / "net").mkdir(parents=True)
    (mirror / HUB_NAME).write_bytes(CONTENT)
    # The bare name of such files says nothing: they are all called so.
    (mirror / "model.safetensors").write_bytes(b"of another repository")
    assert fetch(PublishedFile(HUB_NAME), WeightsConfig(mirror=mirror)) == mirror / HUB_NAME


def test_nothing_is_downloaded_where_there_is_a_mirror(server: str, mirror: Path) -> None:
    file = PublishedFile(NAME, f"{server}/{NAME}")
    with pytest.raises(CheckpointError, match=rf"'{NAME}' are not in weights\.mirror '{mirror}'"):
        fetch(file, WeightsConfig(mirror=mirror))


def test_wrong_file_in_a_mirror_is_refused(mirror: Path) -> None:
    (mirror / NAME).write_bytes(b"something else")
    with pytest.raises(CheckpointError, match="is not the file that was pinned"):
        fetch(PublishedFile(NAME, "http://x", sha256=DIGEST), WeightsConfig(mirror=mirror))


def test_first_digits_are_enough(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    check_sha256(path, DIGEST[:8])
    check_sha256(path, DIGEST)


@pytest.mark.parametrize("is_served", [True, False])
def test_file_of_the_hub_is_downloaded_by_its_library(
    server: str, tmp_path: Path, is_served: bool
) -> None:
    # In a process of its own: the library reads where the hub is when it is imported.
    code = f"""
from ensemble.errors import CheckpointError
from ensemble.pretrained.published_file import PublishedFile, fetch
from ensemble.members.source_settings import WeightsConfig
try:
    print(fetch(PublishedFile({HUB_NAME!r}), WeightsConfig()).read_text())
except CheckpointError as error:
    print(error)
"""
    environment = {"HF_ENDPOINT": server, "HF_HOME": str(tmp_path / "hub")}
    if not is_served:
        environment["HF_HUB_OFFLINE"] = "1"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | environment,
    )
    if is_served:
        assert done.stdout.strip() == CONTENT.decode()
    else:
        assert f"the weights {HUB_NAME!r} are not on this machine and cannot" in done.stdout
