"""Decoded shards in the object store: each image decoded once for all members, bounded in bytes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import ray
from ray import exceptions as ray_exceptions

from cluster.scheduling.work_queue import Call, ShardWindow
from ensemble.images.open import RemoteSource, decode_shard, open_source
from ensemble.images.settings import SourceConfig
from ensemble.images.shard import ImageShard, ShardSpec


# Ray would decode again in silence; the pool does it itself, counts and says so.
@ray.remote(num_cpus=1, max_retries=0, num_returns=2)  # type: ignore[untyped-decorator]
def _decode(config: SourceConfig, spec: ShardSpec) -> tuple[tuple[int, int], ImageShard]:
    source = open_source(config)
    before = source.retries if isinstance(source, RemoteSource) else 0
    shard = decode_shard(source, spec)
    retries = source.retries - before if isinstance(source, RemoteSource) else 0
    return (shard.size_bytes, retries), shard


@dataclass
class _Held:
    """References of one shard: its bytes and repeated requests (with the reply), and its pixels."""

    size: Any
    pixels: Any
    size_bytes: int | None = None


class Shards:
    """References to decoded shards, owned by the driver, which never sees a pixel.

    Args:
        source: Where images come from.
        window_mb: Bytes of decoded shards to keep; what is in use is kept beyond it.
    """

    def __init__(self, source: SourceConfig, window_mb: int) -> None:
        self._source = source
        self._window = ShardWindow(window_mb)
        self._held: dict[ShardSpec, _Held] = {}
        self.decoded_images = 0
        self.retries = 0

    def expect(self, calls: Iterable[Call]) -> None:
        """Begin anew with the calls that will wait for shards."""
        self._window.expect(calls)

    def has_room(self, spec: ShardSpec) -> bool:
        """Whether a shard may be used now."""
        return self._window.has_room(spec)

    def ref(self, spec: ShardSpec) -> Any:
        """The reference of a shard; its decode starts if it is not there."""
        if spec not in self._held:
            self._held[spec] = _Held(*_decode.remote(self._source, spec))
            self.decoded_images += len(spec.image_ids)
        self._window.use(spec)
        return self._held[spec].pixels

    def settle(self, call: Call, is_done: bool = True) -> None:
        """Note that a call waits no more; learn the sizes of what it used, drop what is idle."""
        used = zip(call.shards, call.pixels, strict=True) if is_done else ()
        sizes = {spec: self._size(self._held[spec]) for spec, p in used if self.holds(spec, p)}
        for spec in self._window.settle(call, sizes):
            del self._held[spec]

    def holds(self, spec: ShardSpec, pixels: Any) -> bool:
        """Whether these are still the pixels of a shard, and not decoded anew since."""
        held = self._held.get(spec)
        return held is not None and held.pixels is pixels

    def died(self, spec: ShardSpec) -> ray_exceptions.RayError | None:
        """Why a shard could not be decoded, if it could not."""
        held = self._held.get(spec)
        if held is None or not ray.wait([held.size], timeout=0)[0]:
            return None
        try:
            ray.get(held.size)
        except ray_exceptions.RayError as error:
            return error
        return None

    def forget(self, spec: ShardSpec) -> None:
        """Decode a shard anew when it is next asked for."""
        self._held.pop(spec, None)
        self._window.forget(spec)

    def _size(self, held: _Held) -> int:
        if held.size_bytes is None:
            held.size_bytes, retries = ray.get(held.size)
            self.retries += retries
        return held.size_bytes
