"""A bounded load on a server, from a process of its own: `python -m jobs.benchmark.http_load URL FILE N CONCURRENCY`.

Prints the seconds of each request as JSON; one that is not answered with 200 ends the process with an error.
"""

import http.client
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from threading import local
from urllib.parse import urlsplit

import numpy as np

from ensemble.errors import ClusterError

_PATH = "/v1/predict?top_k=1"


@dataclass(frozen=True)
class Load:
    """What a load measured.

    Attributes:
        seconds: Seconds of each request.
        wall: Seconds of all of them together.
    """

    seconds: tuple[float, ...]
    wall: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.seconds) / self.wall

    def percentile(self, percent: float) -> float:
        """Give the seconds that so many percent of the requests stay below."""
        return float(np.percentile(self.seconds, percent))


def measure_load(url: str, image: Path, requests: int, concurrency: int) -> Load:
    """Send one image many times from another process.

    Raises:
        ClusterError: A request was not answered.
    """
    words = [sys.executable, "-m", "jobs.benchmark.http_load", url, str(image)]
    done = subprocess.run(
        [*words, str(requests), str(concurrency)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ClusterError(f"the load on {url} failed: {done.stderr.strip()[-500:]}")
    document = json.loads(done.stdout)
    return Load(tuple(document["seconds"]), document["wall"])


def main(words: list[str]) -> None:
    """Send the requests, and print what they took."""
    url, path, requests, concurrency = words
    address, body, own = urlsplit(url), Path(path).read_bytes(), local()

    def send(_: None) -> float:
        began = time.perf_counter()
        if not hasattr(own, "connection"):
            own.connection = http.client.HTTPConnection(address.hostname or "", address.port)
        own.connection.request("POST", _PATH, body, {"Content-Type": "image/jpeg"})
        reply = own.connection.getresponse()
        content = reply.read()
        if reply.status != 200:
            raise SystemExit(f"HTTP {reply.status}: {content[:200]!r}")
        return time.perf_counter() - began

    began = time.perf_counter()
    with ThreadPoolExecutor(int(concurrency)) as pool:
        seconds = list(pool.map(send, repeat(None, int(requests))))
    print(json.dumps({"seconds": seconds, "wall": time.perf_counter() - began}))


if __name__ == "__main__":
    main(sys.argv[1:])
