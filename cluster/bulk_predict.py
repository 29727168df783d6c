"""Bulk prediction: the pool that answers images in any number with a whole ensemble, part by part.

Workers, decoding, retries and their limits are those of a run. A worker carries every network of the
ensemble, and publishes a part itself, so that no answer passes through the driver.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ray

from cluster.address import is_named, ray_address
from cluster.devices import list_devices
from cluster.pool.dispatcher import Dispatcher, QuarantinedBlock
from cluster.pool.host import Host, HostSettings
from cluster.scheduling.placement import Device, whole_devices
from cluster.scheduling.predict_task import PredictTask
from cluster.scheduling.work_queue import Call
from cluster.session import session
from cluster.settings import ClusterConfig
from ensemble.answers.part import encode_part
from ensemble.artifact.read import check_document
from ensemble.images.shard import ImageShard, ShardSpec
from ensemble.images.unlabelled.settings import UnlabelledConfig
from ensemble.storage.open import open_store

if TYPE_CHECKING:
    from ensemble.predictor import Predictor


@dataclass(frozen=True)
class PartRecord:
    """What a worker tells of a part that it has published.

    Attributes:
        images: Number of rows.
        bad: Number of rows with an error instead of an answer.
        seconds: Seconds that the worker took, from decoded images to the published part.
        size_bytes: Size of the part.
    """

    images: int
    bad: int
    seconds: float
    size_bytes: int


class PredictorHost(Host):
    """A worker that answers shards with an ensemble.

    Args:
        settings: Device, threads and memory.
    """

    def __init__(self, settings: HostSettings) -> None:
        super().__init__(settings)
        self._predictor: tuple[str, Predictor] | None = None

    def answer(self, task: PredictTask, shard: ImageShard) -> PartRecord:
        """Answer a shard, and publish its part unless it is there.

        Raises:
            CheckpointError: The artifact cannot be loaded, or was replaced since the work began.
            TableError: The part cannot be written.
        """
        started = time.perf_counter()
        kept, prediction = self._open(task).predict_shard(shard)
        keys = task.keys or task.image_ids
        content = encode_part(keys, task.image_ids, kept, prediction, task.settings)
        # Whoever publishes a part first is right: every attempt answers the same images with the same weights.
        open_store(task.out, task.out_storage).create(task.key, content)
        seconds = time.perf_counter() - started
        return PartRecord(len(task.image_ids), len(kept.bad), seconds, len(content))

    def _open(self, task: PredictTask) -> "Predictor":
        from ensemble import predictor

        if self._predictor is None or self._predictor[0] != task.artifact_sha256:
            loaded = predictor.load(
                task.artifact,
                task.artifact_storage,
                trust_code=task.trust_code,
                device=self._settings.device,
                equal_bits=task.equal_bits,
            )
            check_document(loaded.artifact.folder, task.artifact_sha256)
            self._predictor = task.artifact_sha256, loaded
        return self._predictor[1]


class BulkPool:
    """Answers shards on all devices. Use `open_bulk_pool`, which ends it in any case.

    Args:
        config: Settings of the Ray side.
        images: Where the images are.
        host: Class of the worker actors; tests pass one of their own.

    Raises:
        ConfigError: The settings ask for the CPU and list GPUs.
        ClusterError: The settings ask for GPUs, and neither they nor the cluster have one.
    """

    def __init__(
        self,
        config: ClusterConfig,
        images: UnlabelledConfig,
        host: type[PredictorHost] = PredictorHost,
    ) -> None:
        is_cluster = is_named(ray_address())
        self.devices: tuple[Device, ...] = list_devices(config, is_cluster, ray.nodes())
        self._dispatcher = Dispatcher(config, images, self.devices, is_cluster, host)

    @property
    def quarantined(self) -> tuple[QuarantinedBlock, ...]:
        """Parts that killed their worker in every attempt, and are missing."""
        return tuple(self._dispatcher.quarantined)

    @property
    def retries(self) -> int:
        """Number of calls, and of requests to the image source, that were made again so far."""
        return self._dispatcher.retries.total() + self._dispatcher.shards.retries

    def answer(
        self, work: Iterable[tuple[PredictTask, ShardSpec]]
    ) -> Iterator[tuple[PredictTask, PartRecord]]:
        """Answer shards, and yield each task with its record as soon as its part is published.

        Raises:
            MemberFailedError: A call failed, and its cause neither allows another attempt nor lets its
                part be quarantined.
        """
        self._dispatcher.host_group.place(whole_devices(self.devices))
        calls = [Call("answer", task, (spec,), order) for order, (task, spec) in enumerate(work)]
        for call, record in self._dispatcher.run(calls):
            assert isinstance(call.about, PredictTask)
            yield call.about, record

    def close(self) -> None:
        """End the workers, and give back their room."""
        self._dispatcher.host_group.close()


@contextmanager
def open_bulk_pool(
    config: ClusterConfig,
    images: UnlabelledConfig,
    host: type[PredictorHost] = PredictorHost,
) -> Iterator[BulkPool]:
    """Open a pool on an embedded Ray, or on the cluster that RAY_ADDRESS names; end it in any case.

    Args:
        config: Settings of the Ray side.
        images: Where the images are.
        host: Class of the worker actors; tests pass one of their own.

    Raises:
        ConfigError: The settings ask for the CPU and list GPUs.
        ClusterError: Ray cannot be reached or started, or the settings ask for GPUs and there is none.
    """
    with session(config):
        pool = BulkPool(config, images, host)
        try:
            yield pool
        finally:
            pool.close()
