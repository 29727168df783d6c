"""LitServe with the same predictor, beside which the server is measured."""

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec

from ensemble.errors import ClusterError

_START_LIMIT_S = 120.0


def is_installed() -> bool:
    """Tell whether LitServe is there: it comes with the extra `benchmark`."""
    return find_spec("litserve") is not None


@contextmanager
def litserve(place: str, port: int, max_batch: int) -> Iterator[str]:
    """Serve an artifact by LitServe in a process of its own, until the block ends.

    Args:
        place: Folder of the artifact.
        port: Port of loopback.
        max_batch: Requests that are predicted together.

    Yields:
        The URL that takes requests `{"image": base64}`.

    Raises:
        ClusterError: It does not start in time.
    """
    words = [sys.executable, "-m", "jobs.benchmark.litserve_server"]
    process = subprocess.Popen(
        [*words, place, str(port), str(max_batch)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_until_ready(process, port)
        yield f"http://127.0.0.1:{port}/predict"
    finally:
        # Its workers outlive a main process that is asked to end; the group is theirs alone.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass  # nobody listens yet
        finally:
            connection.close()
        time.sleep(0.2)
    raise ClusterError(f"LitServe did not start on port {port} in {_START_LIMIT_S:g} s.")
