"""One Ray session: embedded by default, or the cluster that RAY_ADDRESS names."""

import logging
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

from cluster.settings import ClusterConfig
from cluster.submission.token import tighten, token_file
from ensemble.errors import ClusterError


@contextmanager
def session(config: ClusterConfig, address: str | None = None) -> Iterator[None]:
    """Join or start Ray; leave or end it, whatever happens inside.

    Args:
        config: Where and how wide.
        address: The cluster to join; what RAY_ADDRESS says if not given.

    Raises:
        ClusterError: Ray cannot be reached or started.
    """
    address = address or os.environ.get("RAY_ADDRESS", "local")
    folder = Path(tempfile.mkdtemp(prefix="ens-", dir=_short_folder()))
    try:
        _start(address, config, folder)
        # Ray prints a paragraph for each process that ends; what is done about it is a line of ours.
        ray._private.worker._worker_logs_enabled = False
        yield
    finally:
        ray._private.worker._worker_logs_enabled = True
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _start(address: str, config: ClusterConfig, folder: Path) -> None:
    embedded = {
        # One logical CPU beside the hosts' for decoding and searching, which are short.
        "num_cpus": (config.hosts or len(os.sched_getaffinity(0))) + 1,
        "object_store_memory": config.object_store_mb << 20,
        "include_dashboard": False,
        "_temp_dir": str(folder),
    }
    in_main_thread = threading.current_thread() is threading.main_thread()
    on_sigterm = signal.getsignal(signal.SIGTERM) if in_main_thread else None
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            **(embedded if address == "local" else {}),
        )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        hint = (
            "Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN if the cluster asks for a token."
            if address != "local"
            else "Free memory or disk in /tmp and /dev/shm, and run again."
        )
        raise ClusterError(f"cannot start Ray at {address!r}: {error}. {hint}") from error
    # Ray puts its own handler in place, which would end the process before anything is closed.
    if on_sigterm is not None:
        signal.signal(signal.SIGTERM, on_sigterm)
    tighten(token_file())


def _short_folder() -> str | None:
    # Ray's sockets live below it, and a socket's path may have 107 bytes.
    folder = tempfile.gettempdir()
    return folder if len(folder) <= 32 else "/tmp"
