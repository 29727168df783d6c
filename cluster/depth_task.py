"""Counting the depths of networks as a Ray task, because the driver has no torch."""

from collections.abc import Sequence

import ray
from ray import exceptions as ray_exceptions

from cluster.pool.ray_errors import translate
from ensemble.errors import ClusterError
from ensemble.members.member import Member


def count_depths(members: Sequence[Member]) -> dict[str, int | None]:
    """Count the weighted layers on the longest path of each member's network, by the member's name.

    Raises:
        ClusterError: The task failed.
    """
    try:
        depths: list[int | None] = ray.get(_count.remote(list(members)))
    except ray_exceptions.RayError as error:
        raise ClusterError(
            f"counting the depth of networks failed: {translate(error)[1]}"
        ) from error
    return {member.name: depth for member, depth in zip(members, depths, strict=True)}


@ray.remote(num_cpus=1, max_retries=3)  # type: ignore[untyped-decorator]
def _count(members: list[Member]) -> list[int | None]:
    from ensemble.inference.depth import depth_of

    # The views of a member share its network.
    depths: dict[tuple[str, str, int], int | None] = {}
    for member in members:
        key = (member.architecture, member.weights_sha256, member.preprocessing.size)
        if key not in depths:
            depths[key] = depth_of(member)
    return [depths[(m.architecture, m.weights_sha256, m.preprocessing.size)] for m in members]
