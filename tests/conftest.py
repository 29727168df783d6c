"""Who runs which test; and S3 on loopback: moto, with conditional writes; rclone, without, checks keys."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from .ensemble.storage.fault_proxy import FaultProxy

# A file with it starts Ray, or commands that do: several of them at once would be in each other's way.
_RAY_MARK = "mark.ray"

# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

KEYS = {"AWS_ACCESS_KEY_ID": "testkey", "AWS_SECRET_ACCESS_KEY": "testsecret"}


class _Parts(LoadScopeScheduling):
    """One process runs all that starts Ray; the others share the rest, file by file."""

    def _split_scope(self, nodeid: str) -> str:
        path, _, _ = nodeid.partition("::")
        return "ray" if _starts_ray(self.config.rootpath / path) else path


@cache
def _starts_ray(path: Path) -> bool:
    return _RAY_MARK in path.read_text()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _Parts:
    return _Parts(config, log)


@pytest.fixture(scope="session")
def aws_keys() -> Iterator[None]:
    """Keys of the loopback servers, and no configuration of this machine's."""
    changed = KEYS | {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    yield
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


@pytest.fixture
def fault_proxy() -> type[FaultProxy]:
    """An HTTP proxy that fails."""
    return FaultProxy


@pytest.fixture(scope="session")
def moto_port(aws_keys: None) -> Iterator[int]:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    boto3.client("s3", endpoint_url=f"http://{host}:{port}").create_bucket(Bucket="tables")
    yield int(port)
    server.stop()


@pytest.fixture(scope="session")
def rclone_port(aws_keys: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("rclone")
    (folder / "tables").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["rclone", "--config", "/dev/null", "serve", "s3", "--addr", f"127.0.0.1:{port}"]
    keys = ",".join(KEYS.values())
    with subprocess.Popen(
        [*words, "--auth-key", keys, str(folder)], stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield port
        process.kill()
