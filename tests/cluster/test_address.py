"""Whether a head answers at an address, before Ray is asked."""

import socket
import time

import pytest

from cluster.address import check_head, is_named, ray_address
from ensemble.errors import ClusterError, ConfigError

from .servers import answering

SETTINGS_FRAME = b"\0\0\x12\4\0\0\0\0\0" + b"\0" * 18


def _unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_head_is_accepted() -> None:
    with answering(SETTINGS_FRAME) as address:
        check_head(address, "RAY_ADDRESS")


def test_a_cluster_that_is_gone_is_told_at_once_and_what_to_do() -> None:
    address, began = f"127.0.0.1:{_unused_port()}", time.monotonic()
    with pytest.raises(ClusterError, match=rf"{address}.*RAY_ADDRESS.*refused.*unset RAY_ADDRESS"):
        check_head(address, "RAY_ADDRESS")
    assert time.monotonic() - began < 10


def test_the_option_is_named_where_the_address_comes_from_it() -> None:
    with pytest.raises(ClusterError, match=r"\(--address\).*leave --address out"):
        check_head(f"127.0.0.1:{_unused_port()}", "--address")


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n", b""])
def test_what_is_no_head_is_told(answer: bytes) -> None:
    with (
        answering(answer) as address,
        pytest.raises(ClusterError, match=r"is not the head of a Ray cluster.*10\.0\.0\.1:6379"),
    ):
        check_head(address, "RAY_ADDRESS")


def test_a_name_that_is_not_known_is_told() -> None:
    with pytest.raises(
        ClusterError, match=r"no Ray cluster answers at 'no-such-host\.invalid:6379'"
    ):
        check_head("no-such-host.invalid:6379", "RAY_ADDRESS")


def test_another_protocol_is_told_with_the_address_to_use() -> None:
    with pytest.raises(ConfigError, match=r"without ray://.*try 10\.1\.2\.3:6379"):
        check_head("ray://10.1.2.3:10001", "RAY_ADDRESS")
    with pytest.raises(ConfigError, match=r"ensemble submit --address http://10\.1\.2\.3:8265"):
        check_head("http://10.1.2.3:8265", "RAY_ADDRESS")


@pytest.mark.parametrize(
    "address",
    ["head", "head:", ":6379", "head:x", "head:99999", "head:²", "a\0b:1", "x" * 90 + ":1"],
)
def test_what_is_no_address_is_told(address: str) -> None:
    with pytest.raises((ConfigError, ClusterError), match=r"RAY_ADDRESS"):
        check_head(address, "RAY_ADDRESS")


@pytest.mark.parametrize("value", ["", " ", "local"])
def test_an_empty_variable_names_no_cluster(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", value)
    assert ray_address() == "local"
    assert not is_named(ray_address())
