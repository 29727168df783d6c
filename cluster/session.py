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
        config: Settings of the Ray side; only its sizes matter here.
        address: Address of the cluster to join; RAY_ADDRESS if none, and an embedded Ray without it.

    Raises:
        ClusterError: Ray cannot be reached or started.
    """
    address = address or os.environ.get("RAY_ADDRESS", "local")
    folder = Path(tempfile.mkdtemp(prefix="ens-", dir=_short_folder()))
    try:
        _start(address, config, folder)
        # Ray prints a paragraph for each process that ends; the dispatcher logs one line instead.
        ray._private.worker._worker_logs_enabled = False
        yield
    finally:
        ray._private.worker._worker_logs_enabled = True
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _start(address: str, config: ClusterConfig, folder: Path) -> None:
    embedded = {
        # One CPU more than the workers have, for decoding and searching.
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
    # Ray installs a handler of its own, which would end the process before anything is closed.
    if on_sigterm is not None:
        signal.signal(signal.SIGTERM, on_sigterm)
    tighten(token_file())


def _short_folder() -> str | None:
    # Ray's sockets are below this folder, and the path of a socket may have 107 bytes.
    folder = tempfile.gettempdir()
    return folder if len(folder) <= 32 else "/tmp"
