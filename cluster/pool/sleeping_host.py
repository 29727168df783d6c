"""A stand-in for `Host` that only takes time, so that a fleet fits on one machine. For benchmarks and tests only."""

import time
from functools import lru_cache

import numpy as np
from jaxtyping import Float32

from cluster.pool.synthetic_host import SyntheticHost
from ensemble.images.shard import ImageShard
from ensemble.members.member import Member
from ensemble.table.block import LogitBlock

# A plan cannot divide work that takes no time.
_LEAST_S = 1e-3


class SleepingHost(SyntheticHost):
    """Predicts the same rows for every shard; a member's `parameters` are milliseconds a block."""

    def predict(
        self, member: Member, largest_batch: int | None, shard: ImageShard
    ) -> tuple[LogitBlock, int | None]:
        """Sleep, and give a block of made-up rows."""
        seconds = member.parameters / 1e3
        time.sleep(seconds)
        block = LogitBlock(
            column=member.column,
            image_ids=shard.image_ids,
            log_probabilities=_rows(len(shard), len(member.classes)),
            bad=shard.bad,
            seconds=max(seconds, _LEAST_S),
            forward_passes=len(shard),
        )
        return block, largest_batch


@lru_cache(maxsize=4)
def _rows(images: int, classes: int) -> Float32[np.ndarray, "image class"]:
    scores = np.random.default_rng(0).normal(size=(images, classes))
    logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return logs.astype(np.float32)
