"""Which host carries which members. Pure: facts in, plan out."""

from collections.abc import Mapping
from dataclasses import dataclass

from ensemble.errors import ClusterError

# Ray counts shares in steps of 1e-4.
_STEPS = 10_000


@dataclass(frozen=True)
class HostPlan:
    """One process: the members it carries, and what it takes of the cluster (no GPU on CPUs)."""

    members: tuple[str, ...]
    cpu_share: float = 1.0
    gpu_share: float = 0.0


def plan_on_cpus(cost_by_member: Mapping[str, float], num_hosts: int) -> tuple[HostPlan, ...]:
    """Spread members over hosts, longest processing time first, so that hosts end together.

    Args:
        cost_by_member: Relative cost of each member, any unit.
        num_hosts: Processes; no more are planned than there are members.
    """
    loads = [0.0] * max(1, min(num_hosts, len(cost_by_member)))
    members: list[list[str]] = [[] for _ in loads]
    for name, cost in sorted(cost_by_member.items(), key=lambda item: (-item[1], item[0])):
        host = loads.index(min(loads))
        loads[host] += cost
        members[host].append(name)
    return tuple(HostPlan(tuple(names)) for names in members)


def plan_on_gpus(members: tuple[str, ...], num_gpus: int, num_cpus: int) -> tuple[HostPlan, ...]:
    """One host a member, each with an equal share of a GPU, and of the CPUs where they are few.

    Raises:
        ClusterError: There is no GPU.
    """
    if num_gpus < 1:
        raise ClusterError(
            "cluster.device is cuda and the cluster has no GPU. Expected at least one; set "
            "cluster.device=cpu, or point RAY_ADDRESS at a cluster that has GPUs."
        )
    per_gpu = -(-len(members) // num_gpus)
    gpu_share = max(1, _STEPS // per_gpu) / _STEPS
    # A host that waits for its GPU needs little of a CPU; one that gets none would wait for ever.
    cpu_share = min(1.0, max(1, num_cpus * _STEPS // len(members)) / _STEPS)
    return tuple(HostPlan((name,), cpu_share, gpu_share) for name in members)
