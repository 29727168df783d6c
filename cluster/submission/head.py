"""The head of a Ray cluster over HTTP: whether it answers, whether it demands a token, and a client of its Jobs API."""

import http.client
import json
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from cluster.submission.token import (
    WHERE_TO_PUT_IT,
    Token,
    is_open_to_others,
    read_token,
    token_file,
)
from ensemble.errors import ClusterError, ConfigError
from ensemble.storage.probe import Finding

TIMEOUT_S = 10
_VARIABLE = "RAY_API_SERVER_ADDRESS"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Answer:
    """A head's answer to the request for its version.

    Attributes:
        status: HTTP status.
        ray_version: Version of Ray; empty unless the status is 200.
    """

    status: int
    ray_version: str = ""


def check_address(address: str | None) -> str:
    """Check the address of a head, and return it without a slash at its end.

    Raises:
        ConfigError: The address is missing, or it is not the address of a dashboard.
    """
    if not address:
        raise ConfigError(
            f"no cluster was named. Give --address http://head:8265, or set {_VARIABLE}."
        )
    try:
        parts = urlsplit(address)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, is_good = urlsplit(""), False
    if not is_good or parts.username or parts.password or parts.query or parts.fragment:
        # Not shown: what stands before an @ could be a password.
        shown = repr(address) if "@" not in address else "an address with a user in it"
        raise ConfigError(
            f"cannot submit to {shown}; expected the address of the head's dashboard, as "
            "http://head:8265."
        )
    return address.rstrip("/")


def ask(address: str, token: Token | None) -> Answer:
    """Ask a head for its version.

    Raises:
        ClusterError: Nothing answers, or what answers is not a Ray head.
    """
    try:
        return Answer(200, str(_read(f"{address}/api/version", token)["ray_version"]))
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return Answer(error.code)
        raise ClusterError(_not_a_head(address, f"it answers with HTTP {error.code}")) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ClusterError(_not_a_head(address, "it does not tell a version of Ray")) from error
    except http.client.RemoteDisconnected as error:
        raise ClusterError(_not_a_head(address, "it ends the connection")) from error
    except http.client.HTTPException as error:
        why = f"it does not speak HTTP ({type(error).__name__})"
        raise ClusterError(_not_a_head(address, why)) from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise ClusterError(
            f"no Ray head answers at {address}: {reason}. Is the cluster up, and the tunnel to it "
            "open (`ray dashboard cluster.yaml`, or `kubectl port-forward`)?"
            f"{_describe_proxy(address)}"
        ) from error


def list_nodes(address: str) -> list[dict[str, Any]]:
    """List the nodes of a cluster with the keys of `ray.nodes()`, without joining it.

    Raises:
        ConfigError: The address is no dashboard's, or the token is missing or refused.
        ClusterError: Nothing answers, or what answers does not list its nodes.
    """
    address = check_address(address)
    # Nothing is run there, so a head that demands no token is accepted.
    token = _find_token(address, is_insecure=True)
    try:
        nodes = _read(f"{address}/api/v0/nodes", token)["data"]["result"]["result"]
        return [
            {
                "Alive": node["state"] == "ALIVE",
                "Resources": node["resources_total"],
                "Labels": node["labels"] or {},
            }
            for node in nodes
        ]
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        http.client.HTTPException,
    ) as error:
        raise ClusterError(_not_a_head(address, f"it does not tell its nodes ({error})")) from error


def _read(url: str, token: Token | None) -> Any:
    headers = {"Authorization": f"Bearer {token.value}"} if token else {}
    request = urllib.request.Request(url, headers=headers)
    # A tunnel on this machine is not behind a proxy, whatever the environment says.
    proxies = urllib.request.ProxyHandler({} if _is_loopback(url) else None)
    with urllib.request.build_opener(proxies).open(request, timeout=TIMEOUT_S) as response:
        return json.load(response)


def _is_loopback(url: str) -> bool:
    return urlsplit(url).hostname in _LOOPBACK


def _proxy(address: str) -> str | None:
    """The proxy that requests to an address go through, without a user and password in it."""
    parts = urlsplit(address)
    proxy = urllib.request.getproxies().get(parts.scheme)
    is_direct = _is_loopback(address) or urllib.request.proxy_bypass(parts.hostname or "")
    if not proxy or is_direct:
        return None
    return proxy.rpartition("@")[2]


def _describe_proxy(address: str) -> str:
    proxy, scheme = _proxy(address), urlsplit(address).scheme
    if proxy is None:
        return ""
    return (
        f" It was asked through the proxy {proxy} of {scheme}_proxy; to ask it directly, "
        f"export no_proxy={urlsplit(address).hostname}."
    )


def connect(address: str | None, is_insecure: bool) -> Any:
    """Make a client of the Jobs API of a head that demands a token.

    Args:
        address: Address of its dashboard, as http://head:8265.
        is_insecure: Whether to accept a head that demands no token.

    Raises:
        ConfigError: The address is no dashboard's, the head demands no token, or the token is missing
            or refused.
        ClusterError: Nothing answers, or what answers is not a Ray head.
    """
    address = check_address(address)
    return _client(address, _find_token(address, is_insecure))


def _find_token(address: str, is_insecure: bool) -> Token | None:
    if ask(address, None).status == 200:
        if not is_insecure:
            raise ConfigError(
                f"the head at {address} answers without a token: whoever reaches it can run code "
                "on the cluster. Start it with RAY_AUTH_MODE=token, as cluster.yaml does; or "
                "accept it as it is with --insecure."
            )
        return None
    token = read_token()
    if token is None:
        raise ConfigError(
            f"the head at {address} asks for a token and there is none here. {WHERE_TO_PUT_IT}"
        )
    if ask(address, token).status != 200:
        raise ConfigError(
            f"the head at {address} refuses the token of {token.origin}: it is another "
            f"cluster's. {WHERE_TO_PUT_IT}"
        )
    return token


def examine(address: str | None) -> tuple[Finding, ...]:
    """Check what a head should promise, for `ensemble doctor`.

    Raises:
        ConfigError: The address is missing, or it is not the address of a dashboard.
        ClusterError: Nothing answers, or what answers is not a Ray head.
    """
    address = check_address(address)
    without, token = ask(address, None), read_token()
    is_closed = without.status != 200
    detail = f"HTTP {without.status}" + ("" if is_closed else ": whoever reaches it can run code")
    findings = [Finding("refuses who has no token", is_closed, detail)]
    version = without.ray_version
    if is_closed:
        answer = ask(address, token) if token else Answer(401)
        version = answer.ray_version
        detail = f"{token.origin}: HTTP {answer.status}" if token else f"none. {WHERE_TO_PUT_IT}"
        findings.append(Finding("lets in who has the token set here", bool(version), detail))
    findings.append(_examine_token_file())
    if version:
        findings.append(_examine_version(version))
    parts = urlsplit(address)
    is_private = parts.scheme == "https" or parts.hostname in _LOOPBACK
    detail = parts.scheme if is_private else "http: token and code travel in clear; use a tunnel"
    findings.append(Finding("is reached by loopback, tunnel or https", is_private, detail, False))
    return tuple(findings)


def _examine_token_file() -> Finding:
    path, promise = token_file(), "the token's file is its owner's only"
    if not path.is_file():
        return Finding(promise, True, f"{path} is not there", False)
    mode = path.stat().st_mode & 0o777
    return Finding(promise, not is_open_to_others(path), f"{path}: mode {mode:04o}", False)


def _examine_version(theirs: str) -> Finding:
    from importlib.metadata import version

    ours = version("ray")
    same = theirs.split(".")[:2] == ours.split(".")[:2]
    # Submitting is HTTP only; what runs there is the cluster's own Ray.
    return Finding("has the Ray of this machine", same, f"{theirs} there, {ours} here", False)


def _client(address: str, token: Token | None) -> Any:
    from ray.job_submission import JobSubmissionClient

    for name in (
        "dashboard.modules.dashboard_sdk",
        "dashboard.modules.job.sdk",
        "_private.runtime_env.packaging",
    ):
        logging.getLogger(f"ray.{name}").setLevel(logging.WARNING)
    headers = {"Authorization": f"Bearer {token.value}"} if token else {}
    if _is_loopback(address):
        # Ray's client asks the proxy of the environment for every address that this does not list.
        excluded = urllib.request.getproxies().get("no", "")
        os.environ["no_proxy"] = ",".join(filter(None, (excluded, *_LOOPBACK)))
    with _addressed(address):
        return JobSubmissionClient(address, headers=headers)


@contextmanager
def _addressed(address: str) -> Iterator[None]:
    # In Ray the environment overrides the address in the argument.
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = address
    try:
        yield
    finally:
        if before is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = before


def _not_a_head(address: str, why: str) -> str:
    return (
        f"{address} is not the dashboard of a Ray head: {why}. Expected an address as "
        f"http://head:8265.{_describe_proxy(address)}"
    )
