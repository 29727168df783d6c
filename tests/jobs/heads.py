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
from typing import Any

import yaml
from ray.autoscaler._private.fake_multi_node.node_provider import (
    FAKE_HEAD_NODE_ID,
    FAKE_HEAD_NODE_TYPE,
    FakeMultiNodeProvider,
)

from cluster.submission.head import ask
from cluster.submission.token import Token
from ensemble.errors import ClusterError

from .killing import kill_marked

LIMIT_S = 90

# What Ray's own tests tell a head whose cloud is the machine it is on.
_FAKE_CLOUD = {
    "RAY_FAKE_CLUSTER": "1",
    "RAY_enable_autoscaler_v2": "1",
    "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
}


@dataclass(frozen=True)
class RealHead:
    """A Ray of one machine, that only its token opens.

    Attributes:
        address: Of its dashboard.
        ray_address: For drivers.
        token: What opens it.
        home: The home folder of its user.
        metrics: Where Prometheus would read.
    """

    address: str
    ray_address: str
    token: str
    home: Path
    metrics: str


@contextmanager
def started(
    home: Path, num_cpus: int = 3, worker_types: dict[str, Any] | None = None
) -> Iterator[RealHead]:
    """Start a head with a token on ports of its own, and end the processes that it has started.

    With types of workers it has an autoscaler that starts them, on this machine.
    """
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
    ray_address = f"127.0.0.1:{ports['port']}"
    if worker_types is not None:
        words.append(f"--autoscaling-config={_write_autoscaling(mark, ray_address, worker_types)}")
        environment |= _FAKE_CLOUD
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
        ray_address,
        token,
        home,
        f"http://127.0.0.1:{ports['metrics-export-port']}/metrics",
    )
    try:
        _await(head, process, log)
        yield head
    finally:
        _end(process, mark)


def _write_autoscaling(mark: str, ray_address: str, worker_types: dict[str, Any]) -> Path:
    head = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
    commands = ("setup", "head_setup", "worker_setup", "initialization")
    starts = ("head_start_ray", "worker_start_ray")
    config = {
        **{f"{name}_commands": [] for name in (*commands, *starts)},
        "cluster_name": "fake",
        # By its module: the wheel lacks the defaults of the type of that name.
        "provider": {
            "type": "external",
            "module": f"{FakeMultiNodeProvider.__module__}.{FakeMultiNodeProvider.__name__}",
            "gcs_address": ray_address,
        },
        "auth": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "max_workers": 8,
        "upscaling_speed": 4,
        "idle_timeout_minutes": 0.1,
        "head_node_type": FAKE_HEAD_NODE_TYPE,
        "available_node_types": {FAKE_HEAD_NODE_TYPE: head, **worker_types},
    }
    path = Path(mark) / "cluster.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


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
    kill_marked(mark)
    shutil.rmtree(mark, ignore_errors=True)
