"""Decoded shards in the object store: each image decoded once for all members, bounded in bytes."""

from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Any

import ray

from ensemble.images.settings import SourceConfig
from ensemble.images.shard import ImageShard, ShardSpec
from ensemble.images.sources import RemoteSource, decode_shard, open_source

_MB = 1 << 20


@ray.remote(num_cpus=1, max_retries=3, num_returns=2)  # type: ignore[untyped-decorator]
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
    """References to decoded shards, owned by the driver.

    Args:
        source: Where images come from.
        window_mb: Bytes of decoded shards to keep; what is in use is kept beyond it.
    """

    def __init__(self, source: SourceConfig, window_mb: int) -> None:
        self._source = source
        self._window_bytes = window_mb * _MB
        self._held: OrderedDict[ShardSpec, _Held] = OrderedDict()
        self.decoded_images = 0
        self.retries = 0

    def ref(self, spec: ShardSpec) -> Any:
        """The reference of a shard; its decode starts if it is not there."""
        if spec not in self._held:
            self._held[spec] = _Held(*_decode.remote(self._source, spec))
            self.decoded_images += len(spec.image_ids)
        self._held.move_to_end(spec)
        return self._held[spec].pixels

    def has_room(self, waited_for: Counter[ShardSpec], spec: ShardSpec) -> bool:
        """Whether a shard may be used now: two may always be open, more while the bytes allow.

        A shard is open while a call still waits for it, so that a fast host does not run ahead of
        a slow one by more than the window.
        """
        is_open = {held for held in self._held if waited_for[held] > 0}
        if spec in is_open or len(is_open) < 2:
            return True
        largest = max(held.size_bytes or 0 for held in self._held.values())
        return 0 < (len(is_open) + 1) * largest <= self._window_bytes

    def settle(self, waited_for: Counter[ShardSpec], done: ShardSpec) -> None:
        """Note the size of a shard that was used, and drop the oldest idle ones past the bound."""
        used = self._held[done]
        if used.size_bytes is None:
            used.size_bytes, retries = ray.get(used.size)
            self.retries += retries
        total = sum(held.size_bytes or 0 for held in self._held.values())
        for spec in list(self._held):
            if total <= self._window_bytes:
                break
            if waited_for[spec] <= 0:
                total -= self._held.pop(spec).size_bytes or 0
