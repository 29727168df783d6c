"""A stand-in for `Host` that computes a fixed amount of arithmetic and no network. For benchmarks and tests only.

No run uses it. It has the methods of `Host`, so that benchmarks and tests drive the pool, and make it
fail, with real processes, without torch and with GPUs that only Ray believes in. It is in `cluster/`
because nothing else may import ray, and it must be importable on the workers. A block still depends on
member and shard alone. Its clock is that of its own thread, which other programs hardly change.
"""

import time
from collections.abc import Collection, Sequence
from hashlib import sha256

import numpy as np

from cluster.pool.host import Host, HostSettings
from ensemble.images.shard import ImageShard
from ensemble.inference.costs import MemberCost, seconds_of_all_views
from ensemble.members.member import Member
from ensemble.table.block import LogitBlock

_ROUND = bytes(1 << 14)


class SyntheticHost(Host):
    """Predicts numbers made of hashes; a member's `parameters` are rounds of arithmetic an image."""

    def __init__(self, settings: HostSettings) -> None:
        self._settings = settings

    def keep(self, columns: Collection[str]) -> None:
        """Do nothing, because no network is loaded."""

    def predict(
        self, member: Member, largest_batch: int | None, shard: ImageShard
    ) -> tuple[LogitBlock, int | None]:
        """Make a block from a hash of the member's column and the pixels."""
        started = time.thread_time()
        rows = [_row(member, pixels.tobytes()) for pixels in shard.images()]
        spread = np.array(rows, np.float64).reshape(len(shard), len(member.classes))
        logs = spread - np.log(np.exp(spread).sum(axis=1, keepdims=True))
        block = LogitBlock(
            column=member.column,
            image_ids=shard.image_ids,
            log_probabilities=logs.astype(np.float32),
            bad=shard.bad,
            seconds=max(time.thread_time() - started, 1e-9),
            forward_passes=len(shard),
        )
        return block, largest_batch

    def measure(
        self, members: Sequence[Member], largest_batch: int | None, shard: ImageShard
    ) -> tuple[list[LogitBlock], MemberCost]:
        """Make blocks, and measure what that costs."""
        self.predict_each(members, largest_batch, shard)  # warm, as `Host` is when it is timed
        blocks, _ = self.predict_each(members, largest_batch, shard)
        seconds = seconds_of_all_views(members, blocks)
        return blocks, MemberCost(images_per_s=max(len(shard), 1) / seconds, memory_mb=1000)


def _row(member: Member, pixels: bytes) -> list[float]:
    digest = sha256(member.column.encode() + pixels)
    for _ in range(member.parameters):
        digest.update(_ROUND)
    seed = int.from_bytes(digest.digest()[:8], "big")
    return np.random.default_rng(seed).normal(size=len(member.classes)).tolist()
