"""A real head of Ray, on loopback, behind a token, on ports of its own; nothing of it is left running."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster.authentication import Token
from cluster.head import ask
from ensemble.errors import ClusterError

from .killing import marked

LIMIT_S = 90


@dataclass(frozen=True)
class RealHead:
    """A Ray of one machine, that only its token opens.

    Attributes:
        address: Of its dashboard.
        token: What opens it.
        home: The home folder of its user.
        metrics: Where Prometheus would read.
    """

    address: str
    token: str
    home: Path
    metrics: str


@contextmanager
def started(home: Path, num_cpus: int = 3) -> Iterator[RealHead]:
    """Start a head with a token on ports of its own, and end the processes that it has started."""
    # Ray's sockets live below it, and paths of sockets must be short.
    mark = tempfile.mkdtemp(prefix="head-", dir="/tmp")
    token = secrets.token_hex(32)
    names = ("port", "dashboard-port", "dashboard-agent-listen-port", "metrics-export-port")
    ports = dict(zip((*names, "ray-client-server-port"), _free_ports(5), strict=True))
    # The head's Python must be this one: a job's entrypoint says `python`.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    drop = {"RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "PYTHONPATH"}
    environment = {key: value for key, value in os.environ.items() if key not in drop} | {
        "HOME": str(home),
        "PATH": path,
        "TMPDIR": mark,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # everything listens on loopback
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    words = [f"--{name}={port}" for name, port in ports.items()]
    words += [
        f"--temp-dir={mark}/ray",
        f"--num-cpus={num_cpus}",
        f"--object-store-memory={1 << 28}",
    ]
    words += ["--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1"]
    log = Path(mark) / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", *words],
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=home,
        )
    head = RealHead(
        f"http://127.0.0.1:{ports['dashboard-port']}",
        token,
        home,
        f"http://127.0.0.1:{ports['metrics-export-port']}/metrics",
    )
    try:
        _await(head, process, log)
        yield head
    finally:
        _end(process, mark)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _await(head: RealHead, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + LIMIT_S
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            if ask(head.address, Token(head.token, "the test")).status == 200:
                return
        except ClusterError:
            time.sleep(0.1)


def _end(process: subprocess.Popen[bytes], mark: str) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    deadline = time.monotonic() + 20
    while pids := list(marked(mark)):
        assert time.monotonic() < deadline
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)
    shutil.rmtree(mark, ignore_errors=True)
