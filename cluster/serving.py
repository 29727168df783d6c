"""An ensemble behind Ray Serve: replicas that predict in batches, and an ingress that decodes and asks again.

Ray Serve retries a request only until a replica has accepted it; one that dies later takes the request with it.
Predicting changes nothing, so the ingress asks another replica: only a lost ingress loses requests.
"""

import asyncio
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from cluster.ingress_socket import listening
from cluster.lost_ingress import FEWER_THREADS
from ensemble.artifact.document import FILE_NAME
from ensemble.artifact.read import parse_document
from ensemble.config import check
from ensemble.errors import CheckpointError, ClusterError
from ensemble.images.inputs import Pixels
from ensemble.inference.kept_memory import keep_freed_memory
from ensemble.serving.app import make_app
from ensemble.serving.here import LocalService
from ensemble.serving.service import About, Answer, RequestError
from ensemble.serving.settings import KEY_VARIABLE, ServingConfig
from ensemble.serving.together import Together
from ensemble.storage.open import open_store
from ensemble.storage.settings import S3Config, StorageConfig
from ensemble.storage.store import read_if_there

APP = "ensemble"

_REPLICA, _INGRESS = "Replica", "Ingress"
_ATTEMPTS, _WAIT_S = 5, 0.2
# Larger ones go through the memory that Ray shares on a machine, which a small one takes longer to get into and out
# of than to be copied.
_LARGE_BYTES = 16_000_000
_NO_ACCESS_LOG = {"enable_access_log": False}


@dataclass(frozen=True)
class ServedArtifact:
    """The artifact that is served, and how it is reached.

    Attributes:
        place: The artifact, a folder that every machine sees, or s3://bucket/prefix.
        about: Name, classes and members.
        storage: How S3 is reached.
        trust_code: Whether members may run code of their own.
    """

    place: str
    about: About
    storage: S3Config
    trust_code: bool = False


class _Replica:
    """One copy of the ensemble; requests that arrive together are predicted together."""

    def __init__(self, artifact: ServedArtifact, config: ServingConfig) -> None:
        keep_freed_memory()
        self._service = LocalService(
            artifact.place,
            artifact.about.name,
            config.device,
            artifact.storage,
            trust_code=artifact.trust_code,
        )
        # Also the first forward passes, which take longer than all later ones.
        if problems := self._service.check():
            raise CheckpointError(" ".join(problems))
        self._together = Together(
            self._service.answer, config.max_batch, config.batch_wait_ms / 1000
        )

    async def answer(self, images: Sequence[Pixels]) -> list[Answer | str]:
        """Answer the images of one request."""
        return await self._together.answer(images)

    async def problems(self) -> Sequence[str]:
        """Say what makes the answers of this copy wrong."""
        return await self._service.problems()


class _Replicas:
    """The service that the ingress answers with."""

    def __init__(self, handle: DeploymentHandle, about: About) -> None:
        self._by_reference, self._about = handle, about
        self._by_value = handle.options(_by_reference=False)

    @property
    def about(self) -> About:
        """What is served."""
        return self._about

    async def answer(self, images: Sequence[Pixels]) -> Sequence[Answer | str]:
        """Answer each image; a replica that is lost meanwhile is replaced by another one.

        Raises:
            RequestError: No replica answers.
        """
        is_large = sum(image.nbytes for image in images) > _LARGE_BYTES
        handle = self._by_reference if is_large else self._by_value
        answers: Sequence[Answer | str] = await self._ask(handle, "answer", list(images))
        return answers

    async def problems(self) -> Sequence[str]:
        """Ask one replica what makes its answers wrong."""
        try:
            problems: Sequence[str] = await self._ask(self._by_value, "problems")
        except RequestError as error:
            return (str(error),)
        return problems

    async def _ask(self, handle: DeploymentHandle, method: str, *values: Any) -> Any:
        for attempt in range(_ATTEMPTS):
            await asyncio.sleep(_WAIT_S * attempt)
            try:
                return await getattr(handle, method).remote(*values)
            except BackPressureError as error:
                raise RequestError(
                    503, "every replica is busy; send the request again later."
                ) from error
            except RayActorError:
                continue  # it died with the request: another one, or the one that replaces it, answers
        raise RequestError(
            503, f"no replica answered in {_ATTEMPTS} attempts; send the request again."
        )


def application(
    artifact: ServedArtifact, config: ServingConfig, key: str | None
) -> serve.Application:
    """Make the application of Ray Serve.

    Args:
        artifact: The ensemble.
        config: Copies, batches, and limits.
        key: What clients must send as a bearer token; everybody is answered if None.
    """

    def build_app() -> Any:
        handle = serve.get_deployment_handle(_REPLICA, app_name=APP)
        return make_app(_Replicas(handle, artifact.about), config, key, listening)

    is_on_gpu = config.device.startswith("cuda")
    environment = {"env_vars": FEWER_THREADS}
    replica = serve.deployment(
        name=_REPLICA,
        num_replicas=config.replicas,
        # All of them wait in the replica, which makes batches of them: a router that finds replicas full
        # looks again after pauses that are longer than a prediction.
        max_ongoing_requests=config.max_queue,
        logging_config=_NO_ACCESS_LOG,
        graceful_shutdown_timeout_s=config.drain_s,
        ray_actor_options={
            "num_cpus": 1,
            "num_gpus": 1 if is_on_gpu else 0,
            "runtime_env": environment,
        },
    )(_Replica)
    ingress = serve.deployment(
        name=_INGRESS,
        # The app itself refuses what is too much, with a header that says when to come again.
        max_ongoing_requests=2 * config.max_queue,
        logging_config=_NO_ACCESS_LOG,
        graceful_shutdown_timeout_s=config.drain_s,
        ray_actor_options={"num_cpus": 0, "runtime_env": environment},
    )(serve.ingress(build_app)())
    bound: serve.Application = ingress.bind(replica.bind(artifact, config))
    return bound


@contextmanager
def serving(artifact: ServedArtifact, config: ServingConfig, key: str | None) -> Iterator[str]:
    """Serve an ensemble on the Ray that is joined, until the block ends; requests under way are answered.

    Yields:
        The URL.

    Raises:
        ClusterError: It cannot be started.
    """
    try:
        # What Ray Serve logs about itself; the verb says what a user has to know.
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        serve.start(http_options={"host": config.host, "port": config.port})
        serve.run(application(artifact, config, key), name=APP, route_prefix="/")
    # Broad, because Ray Serve raises RuntimeError, ValueError and others where a deployment does not come up.
    except Exception as error:
        serve.shutdown()
        # The lines before the last are the traceback of one of Ray Serve's processes.
        cause = str(error).strip().splitlines()[-1].rstrip(".")
        raise ClusterError(
            f"cannot serve {artifact.place!r} at {config.host}:{config.port}: {cause}. See that the port is free and "
            "the device there; `ensemble verify` checks the artifact."
        ) from error
    try:
        yield f"http://{config.host}:{config.port}"
    finally:
        serve.shutdown()


def build(args: dict[str, Any]) -> serve.Application:
    """Make the application from a config file of Ray Serve, as cluster/deploy/serve.yaml.

    Args:
        args: `artifact` and `name`, settings of `ServingConfig`, and `storage`.

    Raises:
        ConfigError: A setting is wrong.
        CheckpointError: The artifact cannot be read.
    """
    settings = dict(args)
    place, name = str(settings.pop("artifact")), str(settings.pop("name", APP))
    storage = check(StorageConfig, settings.pop("storage", {}), "serve.yaml: storage")
    config = check(ServingConfig, settings, "serve.yaml: args")
    return application(describe(place, name, storage), config, os.environ.get(KEY_VARIABLE))


def describe(
    place: str, name: str, storage: S3Config, *, trust_code: bool = False
) -> ServedArtifact:
    """Read what an artifact says of itself.

    Raises:
        CheckpointError: The artifact cannot be read.
    """
    content = read_if_there(open_store(place, storage), FILE_NAME)
    if content is None:
        raise CheckpointError(
            f"{place!r} is no artifact: there is no {FILE_NAME} in it. Expected the `ensemble` folder of a run."
        )
    document = parse_document(content, f"{place}/{FILE_NAME}")
    about = About(name, document.classes, tuple(member.name for member in document.members))
    return ServedArtifact(place, about, storage, trust_code)
