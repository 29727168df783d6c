"""Decoded shards in Ray's object store: each image is decoded once for all members, within a bound in bytes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import ray
from ray import exceptions as ray_exceptions

from cluster.scheduling.work_queue import Call, ShardWindow
from ensemble.images.open import RemoteSource, decode_shard, open_decoder
from ensemble.images.settings import SourceConfig
from ensemble.images.shard import ImageShard, ShardSpec
from ensemble.images.unlabelled.settings import UnlabelledConfig


# Ray would decode again in silence; the dispatcher does it itself, counts it and logs it.
@ray.remote(num_cpus=1, max_retries=0, num_returns=2)  # type: ignore[untyped-decorator]
def _decode(
    config: SourceConfig | UnlabelledConfig, spec: ShardSpec
) -> tuple[tuple[int, int], ImageShard]:
    source = open_decoder(config)
    before = source.retries if isinstance(source, RemoteSource) else 0
    shard = decode_shard(source, spec)
    retries = source.retries - before if isinstance(source, RemoteSource) else 0
    return (shard.size_bytes, retries), shard


@dataclass
class _ShardRefs:
    """References of one shard: to its size in bytes with the number of retried requests, and to its pixels."""

    size: Any
    pixels: Any
    size_bytes: int | None = None


class Shards:
    """References to decoded shards, owned by the driver, which never sees a pixel.

    Args:
        source: Where images come from.
        window_mb: Size of the decoded shards to keep, in MB; shards in use are kept beyond it.
    """

    def __init__(self, source: SourceConfig | UnlabelledConfig, window_mb: int) -> None:
        self._source = source
        self._window = ShardWindow(window_mb)
        self._refs: dict[ShardSpec, _ShardRefs] = {}
        self.decoded_images = 0
        self.retries = 0

    def expect(self, calls: Iterable[Call]) -> None:
        """Start over with the calls that will wait for shards."""
        self._window.expect(calls)

    def has_room(self, spec: ShardSpec) -> bool:
        """Tell whether a shard may be used now."""
        return self._window.has_room(spec)

    def ref(self, spec: ShardSpec) -> Any:
        """Return the reference to the pixels of a shard; start its decode if it is not there."""
        if spec not in self._refs:
            self._refs[spec] = _ShardRefs(*_decode.remote(self._source, spec))
            self.decoded_images += len(spec.image_ids)
        self._window.use(spec)
        return self._refs[spec].pixels

    def settle(self, call: Call, is_done: bool = True) -> None:
        """Note that a call waits no more: learn the sizes of its shards, and drop shards that are idle."""
        used = zip(call.shards, call.pixels, strict=True) if is_done else ()
        sizes = {spec: self._size(self._refs[spec]) for spec, p in used if self.holds(spec, p)}
        # The stage keeps its calls to its end, and whoever holds a reference keeps the pixels in the store.
        call.pixels = ()
        for spec in self._window.settle(call, sizes):
            del self._refs[spec]

    def holds(self, spec: ShardSpec, pixels: Any) -> bool:
        """Tell whether these are still the pixels of a shard, which has not been decoded again since."""
        refs = self._refs.get(spec)
        return refs is not None and refs.pixels is pixels

    def decode_error(self, spec: ShardSpec) -> ray_exceptions.RayError | None:
        """Return what ended the decode of a shard; none if it is under way or has succeeded."""
        refs = self._refs.get(spec)
        if refs is None or not ray.wait([refs.size], timeout=0)[0]:
            return None
        try:
            ray.get(refs.size)
        except ray_exceptions.RayError as error:
            return error
        return None

    def forget(self, spec: ShardSpec) -> None:
        """Drop a shard, so that its next use decodes it again."""
        self._refs.pop(spec, None)
        self._window.forget(spec)

    def _size(self, refs: _ShardRefs) -> int:
        if refs.size_bytes is None:
            refs.size_bytes, retries = ray.get(refs.size)
            self.retries += retries
        return refs.size_bytes
