"""The roster: host actors, where each one is, and when it must move."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import exceptions as ray_exceptions

from cluster.pool.host import Host, HostSettings
from cluster.pool.placement_groups import PlacementGroups
from cluster.scheduling.placement import Device, HostPlan
from cluster.scheduling.work_queue import Call
from cluster.settings import ClusterConfig

log = logging.getLogger(__name__)

# How often it looks up: for drained nodes, and hosts that wait.
LOOK_UP_S = 1.0
_SAY_WAITING_S = 60.0


@dataclass(frozen=True)
class Location:
    """Where a host is.

    Attributes:
        members: That it carries.
        device: Of the plan.
        node_id: Ray's name of the node.
        gpus: CUDA_VISIBLE_DEVICES there.
    """

    members: tuple[str, ...]
    device: int
    node_id: str
    gpus: str


@dataclass(eq=False)
class HostHandle:
    """A host actor and the calls under way on it, oldest first."""

    plan: HostPlan
    actor: Any
    started: Any
    calls: dict[Any, Call] = field(default_factory=dict)
    not_before: float = 0.0
    node_id: str = ""
    gpus: str = ""
    is_draining: bool = False


class HostGroup:
    """Host actors on the devices of a run.

    Args:
        config: Settings of the Ray side.
        devices: Where hosts may go.
        is_cluster: Whether nodes come and go.
        host: What the actors are.
    """

    def __init__(
        self,
        config: ClusterConfig,
        devices: Sequence[Device],
        is_cluster: bool,
        host: type[Host],
    ) -> None:
        self._config, self._devices, self._host = config, tuple(devices), host
        self._is_cluster = is_cluster
        self._placement_groups = PlacementGroups(devices, scales=is_cluster)
        self._looked_up = self._moved = time.monotonic()
        self.handles: list[HostHandle] = []

    def where(self) -> tuple[Location, ...]:
        """Where the hosts are that have started."""
        return tuple(
            Location(w.plan.members, w.plan.device, w.node_id, w.gpus)
            for w in self.handles
            if w.node_id
        )

    def place(self, plans: Sequence[HostPlan]) -> None:
        """Have hosts as planned: those of the same shape stay, others end or start."""
        wanted, kept = list(plans), []
        for handle in self.handles:
            same = next((p for p in wanted if p.shape == handle.plan.shape), None)
            if same is not None:
                wanted.remove(same)
                handle.plan = same
                kept.append(handle)
            elif self._devices[handle.plan.device].is_gpu:
                ray.kill(handle.actor)
            else:
                handle.plan = handle.plan.without_members()
                kept.append(handle)
        for index in {plan.device for plan in plans if plan.gpu_share == 1}:
            self._placement_groups.give_up(index)
        self.handles = [*kept, *(self._start(plan) for plan in wanted)]

    def replace(self, handle: HostHandle) -> None:
        """Start a new host for one that is gone, or must go."""
        ray.kill(handle.actor)
        self.handles[self.handles.index(handle)] = self._start(handle.plan)

    def kind(self, handle: HostHandle) -> str:
        """What kind of device a host is on."""
        return self._devices[handle.plan.device].kind

    def is_alone(self, handle: HostHandle) -> bool:
        """Whether no other host computes on its device."""
        return not any(
            other.calls
            for other in self.handles
            if other is not handle and other.plan.device == handle.plan.device
        )

    def close(self) -> None:
        """End all hosts and give back what the cluster lent."""
        for handle in self.handles:
            ray.kill(handle.actor)
        self._placement_groups.close()

    def look_up(self, is_moving: bool) -> list[HostHandle]:
        """Now and then: where hosts are, which nodes are drained, and whether hosts wait for room.

        Args:
            is_moving: Whether some call has ended just now.

        Returns:
            Hosts that must be replaced, in a place that is asked for.
        """
        now = time.monotonic()
        if is_moving:
            self._moved = now
        if now - self._looked_up < LOOK_UP_S:
            return []
        self._looked_up = now
        for handle in self.handles:
            self._locate(handle)
        if not self._is_cluster:
            return []
        self._say_who_waits(now)
        late = self._placement_groups.relax()
        return [*self._drained(), *(w for w in self.handles if w.plan.device in late)]

    def _say_who_waits(self, now: float) -> None:
        waiting = sum(not handle.node_id for handle in self.handles)
        if waiting and now - self._moved > _SAY_WAITING_S:
            self._moved = now
            log.warning(
                "%d of %d hosts wait for room; the cluster has %s",
                waiting,
                len(self.handles),
                {k: v for k, v in ray.cluster_resources().items() if k in {"CPU", "GPU"}},
            )

    def _locate(self, handle: HostHandle) -> None:
        if not handle.node_id and ray.wait([handle.started], timeout=0)[0]:
            try:
                handle.node_id, handle.gpus = ray.get(handle.started)
            except ray_exceptions.RayError:
                # Its calls fail the same way, and that is where it is dealt with.
                handle.started = handle.actor.where.remote()

    def _drained(self) -> list[HostHandle]:
        """Hosts whose node is taken back: they get no more calls, and move once they are idle."""
        draining = ray._private.state.state.get_draining_nodes()
        for handle in self.handles:
            if handle.node_id in draining and not handle.is_draining:
                handle.is_draining = True
                log.warning(
                    "host of %s: node %s is taken back; it ends %d calls and moves",
                    ", ".join(handle.plan.members) or "no member",
                    handle.node_id[:8],
                    len(handle.calls),
                )
        leaving = [handle for handle in self.handles if handle.is_draining]
        busy = {handle.plan.device for handle in leaving if handle.calls}
        idle = [handle for handle in leaving if handle.plan.device not in busy]
        for index in {handle.plan.device for handle in idle}:
            self._placement_groups.renew(index)
        return idle

    def _start(self, plan: HostPlan) -> HostHandle:
        device = "cuda" if self._devices[plan.device].is_gpu else "cpu"
        threads = plan.threads if device == "cuda" else 1
        config = self._config
        settings = HostSettings(
            device, threads, plan.memory_fraction, config.channels_last, config.compile
        )
        # Ray would restart it in silence; the crew replaces it itself, counts and says so.
        options = self._placement_groups.options(plan) | {"max_restarts": 0}
        actor = ray.remote(self._host).options(**options).remote(settings)
        return HostHandle(plan, actor, actor.where.remote())
