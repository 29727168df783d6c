"""Counting the depths of networks as a Ray task, because the driver has no torch."""

from collections.abc import Sequence
from typing import Any

import ray
from ray import exceptions as ray_exceptions

from cluster.pool.ray_errors import translate
from ensemble.errors import ClusterError
from ensemble.members.member import Member


class DepthsHandle:
    """A count under way.

    Args:
        names: Names of the members.
        ref: Reference to their depths, in the same order.
    """

    def __init__(self, names: Sequence[str], ref: Any) -> None:
        self._names, self._ref = tuple(names), ref

    def result(self) -> dict[str, int | None]:
        """Wait for the number of weighted layers on the longest path of each network, by the member's name.

        Raises:
            ClusterError: The task failed.
        """
        try:
            depths: list[int | None] = ray.get(self._ref)
        except ray_exceptions.RayError as error:
            raise ClusterError(
                f"counting the depth of networks failed: {translate(error)[1]}"
            ) from error
        return dict(zip(self._names, depths, strict=True))


def start_counting(members: Sequence[Member]) -> DepthsHandle:
    """Start to count the depths of members' networks beside everything else that the cluster does."""
    return DepthsHandle([member.name for member in members], _count.remote(list(members)))


# As the search, it asks Ray for no CPU: decoding has the free one.
@ray.remote(num_cpus=0, max_retries=3)  # type: ignore[untyped-decorator]
def _count(members: list[Member]) -> list[int | None]:
    from ensemble.inference.depth import depth_of

    # The views of a member share its network.
    depths: dict[tuple[str, str, int], int | None] = {}
    for member in members:
        key = (member.architecture, member.weights_sha256, member.preprocessing.size)
        if key not in depths:
            depths[key] = depth_of(member)
    return [depths[(m.architecture, m.weights_sha256, m.preprocessing.size)] for m in members]
