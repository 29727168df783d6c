"""One Ray session: embedded by default, or the cluster that RAY_ADDRESS names."""

import logging
import os
import signal
import site
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.job_config import JobConfig

from cluster.address import VARIABLE, check_head, is_named, ray_address
from cluster.session_folder import session_folder
from cluster.settings import ClusterConfig
from cluster.submission.token import tighten, token_file
from cluster.watchdog import Children, watch
from ensemble.errors import ClusterError

# Without them no call to Ray returns.
_NEEDED = ("raylet", "gcs_server")


@contextmanager
def session(config: ClusterConfig, address: str | None = None) -> Iterator[None]:
    """Join or start Ray; leave or end it, whatever happens inside.

    Args:
        config: Settings of the Ray side; only its sizes matter here.
        address: Address of the cluster to join; RAY_ADDRESS if none, and an embedded Ray without it.

    Raises:
        ConfigError: The address is not that of a head.
        ClusterError: Ray cannot be reached or started, or a process of an embedded Ray is gone.
    """
    origin = "--address" if address else VARIABLE
    address = address or ray_address()
    if is_named(address):
        check_head(address, origin)
        with _joined(address, {}):
            yield
        return
    with session_folder() as folder:
        embedded = {
            # One CPU more than the workers have, for decoding and searching.
            "num_cpus": (config.hosts or len(os.sched_getaffinity(0))) + 1,
            "object_store_memory": config.object_store_mb << 20,
            "include_dashboard": False,
            "_temp_dir": str(folder),
        }
        needed = Children(_NEEDED)
        with watch(needed, needed.stopped) as watched, _joined(address, embedded):
            try:
                yield
            finally:
                watched.close()


@contextmanager
def _joined(address: str, embedded: dict[str, Any]) -> Iterator[None]:
    try:
        _start(address, embedded)
        # Ray prints a paragraph for each process that ends; the dispatcher logs one line instead.
        ray._private.worker._worker_logs_enabled = False
        yield
    finally:
        ray._private.worker._worker_logs_enabled = True
        ray.shutdown()


def _start(address: str, embedded: dict[str, Any]) -> None:
    in_main_thread = threading.current_thread() is threading.main_thread()
    on_sigterm = signal.getsignal(signal.SIGTERM) if in_main_thread else None
    try:
        ray.init(
            address=address,
            job_config=_job_config(),
            log_to_driver=False,
            logging_level=logging.ERROR,
            **embedded,
        )
    # Broad, because Ray raises a bare Exception where its processes do not come up in time.
    except Exception as error:
        hint = (
            "Free memory or disk in /tmp and /dev/shm, and run again."
            if embedded
            else "Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN if the cluster asks for a token; "
            f"`unset {VARIABLE}` to run on this machine alone."
        )
        raise ClusterError(
            f"cannot start Ray at {address!r}: {str(error).rstrip('.')}. {hint}"
        ) from error
    # Ray installs a handler of its own, which would end the process before anything is closed.
    if on_sigterm is not None:
        signal.signal(signal.SIGTERM, on_sigterm)
    tighten(token_file())


def _job_config() -> JobConfig:
    """Let workers find modules where the driver does.

    Ray would put the folder in which the command was started first, and with it a user's own
    `ensemble.py`, unless the job came with code of its own or through a client.
    """
    return JobConfig(_client_job=True, _py_driver_sys_path=list(reversed(_added_paths())))


def _added_paths() -> list[str]:
    """Folders that the driver finds modules in, in order, but for those of Python and its packages."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    own = {Path(sysconfig.get_paths()[name]) for name in names}
    own |= {Path(path) for path in (*site.getsitepackages(), site.getusersitepackages())}
    return [
        str(Path(path).absolute())
        for path in sys.path
        if Path(path).is_dir() and not any(Path(path).absolute().is_relative_to(p) for p in own)
    ]
