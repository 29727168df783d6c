"""`ensemble serve`: an artifact behind HTTP, until somebody stops it."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address

from cluster.session import session
from cluster.settings import ClusterConfig
from ensemble.config import load_words
from ensemble.errors import ConfigError
from ensemble.serving.settings import KEY_VARIABLE, ServingConfig
from ensemble.storage.settings import StorageConfig
from jobs.artifacts import find_artifact
from jobs.stored_runs.open import split_words

Say = Callable[[str], None]


class ServeConfig(ServingConfig):
    """A server, and how the artifact is reached."""

    name: str = "ensemble"
    """Name that the ensemble is served under, as /v2/models/NAME."""
    storage: StorageConfig = StorageConfig()
    """How everything at s3:// is reached."""


def serve(
    place: str,
    words: Sequence[str],
    say: Say,
    *,
    address: str | None = None,
    trust_code: bool = False,
    insecure: bool = False,
) -> None:
    """Serve an artifact until SIGINT or SIGTERM; requests that are under way then are answered.

    Args:
        place: The artifact, or the run that has it, here or at s3://.
        words: Settings of `ServeConfig`, of the form a.b=value.
        say: Prints a line.
        address: Address of the cluster to serve on; RAY_ADDRESS if none, and this machine without it.
        trust_code: Accept members that run code of their own.
        insecure: Answer everybody who reaches an address that is not of this machine alone.

    Raises:
        ConfigError: A setting is wrong, there is no artifact, a package is not installed, or everybody could ask.
        ClusterError: The server cannot be started.
    """
    config = load_words(ServeConfig, words)
    key = os.environ.get(KEY_VARIABLE) or None
    if key is None and not insecure and not _is_loopback(config.host):
        raise ConfigError(
            f"host={config.host} lets everybody ask who reaches this machine. Set the environment variable "
            f"{KEY_VARIABLE} to a key that clients send as Authorization: Bearer KEY, or add --insecure."
        )
    place, storage = find_artifact(place, split_words(words)[0])
    try:
        from cluster import lost_ingress, serving
    except ImportError as error:
        raise ConfigError(
            f"serving needs {error.name}, which is not installed: pip install -e '.[serve]'."
        ) from error
    artifact = serving.describe(place, config.name, storage, trust_code=trust_code)
    settings = ServingConfig.model_validate(
        {name: getattr(config, name) for name in ServingConfig.model_fields}
    )
    about = artifact.about
    say(f"{place}: {len(about.members)} members, {len(about.classes)} classes")
    with (
        lost_ingress.serving_environment(),
        session(ClusterConfig(hosts=config.replicas), address),
        serving.serving(artifact, settings, key) as url,
        _stop_event() as stop,
    ):
        say(f"ready: {url} has a page, {url}/docs every request; Ctrl-C stops it")
        stop.wait()
        say("stopping; requests under way are answered first")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def _stop_event() -> Iterator[threading.Event]:
    """Give an event that SIGINT and SIGTERM set while the block runs."""
    event = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: event.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
