import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cluster.devices import find_devices
from cluster.settings import ClusterConfig
from cluster.submission.head import check_address, connect, examine
from ensemble.errors import ClusterError, ConfigError

from ..servers import answering

NODES = [
    {"state": "ALIVE", "resources_total": {"CPU": 8.0}, "labels": {}},
    {"state": "DEAD", "resources_total": {"GPU": 8.0}, "labels": {}},
    {
        "state": "ALIVE",
        "resources_total": {"CPU": 48.0, "GPU": 4.0},
        "labels": {"ray.io/accelerator-type": "L4"},
    },
]


@contextmanager
def told_version(token: str | None, path: str = "/api/version") -> Iterator[str]:
    """Serve what a head answers when it is asked for its version; everybody is let in without a token."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers.get("Authorization", "")
            status, body = 404, b""
            if token is not None and not given:
                status = 401
            elif token is not None and given != f"Bearer {token}":
                status = 403
            elif self.path == path:
                status, body = 200, json.dumps({"version": "5", "ray_version": "2.60.0"}).encode()
            elif self.path == "/api/v0/nodes":
                status, body = 200, json.dumps({"data": {"result": {"result": NODES}}}).encode()
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    "address",
    ["head:8265", "ray://head:10001", "http://", "http://head:x", "ftp://head", "http://h/?a=b"],
)
def test_what_is_not_the_address_of_a_dashboard_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="expected the address of the head's dashboard"):
        check_address(address)


def test_no_address_is_told() -> None:
    with pytest.raises(ConfigError, match=r"Give --address http://head:8265, or set RAY_API"):
        check_address(None)


def test_a_password_in_an_address_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError) as raised:
        check_address("http://me:hunter2@head:8265")
    assert "hunter2" not in str(raised.value)


def test_a_dead_address_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ClusterError, match=rf"no Ray head answers at http://127.0.0.1:{port}"):
        connect(f"http://127.0.0.1:{port}", False)


def test_another_server_is_not_taken_for_a_head() -> None:
    with (
        told_version(None, "/elsewhere") as address,
        pytest.raises(ClusterError, match="it answers with HTTP 404"),
    ):
        connect(address, False)


def test_a_head_that_lets_in_everybody_is_refused_unless_that_is_accepted() -> None:
    with told_version(None) as address:
        with pytest.raises(ConfigError, match=r"answers without a token.*--insecure"):
            connect(address, False)
        assert connect(address, True).get_address() == address


def test_a_token_is_not_shown_to_a_head_that_does_not_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    with told_version(None) as address:
        assert "Authorization" not in connect(address, True)._headers


def test_without_a_token_it_says_what_to_set() -> None:
    with (
        told_version("secret") as address,
        pytest.raises(ConfigError, match=r"asks for a token and there is none here. Set RAY_AUTH"),
    ):
        connect(address, False)


def test_another_clusters_token_is_told_by_its_origin(home: Path) -> None:
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("stale")
    with told_version("secret") as address, pytest.raises(ConfigError) as raised:
        connect(address, False)
    assert f"refuses the token of {home}/.ray/auth_token" in str(raised.value)
    assert "stale" not in str(raised.value)


def test_the_address_that_was_asked_for_wins_over_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    with told_version("secret") as address:
        assert connect(f"{address}/", False).get_address() == address


def _kept(address: str) -> dict[str, bool]:
    return {finding.promise: finding.is_kept for finding in examine(address)}


def test_the_doctor_tells_an_open_head_from_a_closed_one(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with told_version(None) as address:
        assert _kept(address)["refuses who has no token"] is False
    with told_version("secret") as address:
        assert _kept(address)["refuses who has no token"]
        assert not _kept(address)["lets in who has the token set here"]
        monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
        assert all(_kept(address).values())


def test_a_plan_asks_the_dashboard_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    with told_version("secret") as address:
        devices = find_devices(ClusterConfig(device="cuda"), address)
    assert [(device.kind, device.cpus) for device in devices] == [("L4", 6.0)] * 4


def test_a_plan_without_the_token_is_told_what_to_set() -> None:
    with told_version("secret") as address, pytest.raises(ConfigError, match="Set RAY_AUTH_TOKEN"):
        find_devices(ClusterConfig(device="cuda"), address)


@pytest.mark.parametrize(
    "answer",
    [
        b"\0\0\x12\4\0\0\0\0\0\0\3\x7f\xff\xff\xff\n",
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\n" + b"x" * 70_000,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000,
        b"HTTP/1.1 200 OK\r\n\r\n[]",
        b"HTTP/1.1 500 Oops\r\n\r\n",
    ],
    ids=["gRPC", "nothing", "ssh", "cut", "long line", "deep", "list", "error"],
)
def test_another_servers_port_is_told_as_no_head(answer: bytes) -> None:
    with (
        answering(answer) as address,
        pytest.raises(ClusterError, match=rf"http://{address} is not the dashboard of a Ray head"),
    ):
        examine(f"http://{address}")


def test_a_tunnel_on_this_machine_is_not_asked_for_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "example.org")
    with told_version(None) as address:
        assert connect(address, True)
    assert os.environ["no_proxy"] == "example.org,127.0.0.1,localhost,::1"


def test_a_proxy_on_the_way_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://user:secret@127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(
        ClusterError, match=r"proxy 127\.0\.0\.1:9 of http_proxy.*no_proxy=head"
    ) as told:
        examine("http://head:8265")
    assert "secret" not in str(told.value)
