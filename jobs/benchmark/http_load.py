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
from mimetypes import guess_type
from pathlib import Path
from threading import local
from urllib.parse import urlsplit

import numpy as np

from ensemble.errors import ClusterError


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


def measure_load(url: str, body: Path, requests: int, concurrency: int) -> Load:
    """Send the same request many times from another process.

    Args:
        url: Where it goes, with path and query.
        body: File with its body, whose name tells the type of its content.
        requests: How often.
        concurrency: How many are under way at a time.

    Raises:
        ClusterError: A request was not answered.
    """
    words = [sys.executable, "-m", "jobs.benchmark.http_load", url, str(body)]
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
    place = f"{address.path}?{address.query}"
    headers = {"Content-Type": guess_type(path)[0] or "application/octet-stream"}

    def send(_: None) -> float:
        began = time.perf_counter()
        if not hasattr(own, "connection"):
            own.connection = http.client.HTTPConnection(address.hostname or "", address.port)
        own.connection.request("POST", place, body, headers)
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
