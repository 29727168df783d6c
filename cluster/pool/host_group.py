"""The workers of a run: starting and ending them as planned, and moving them off nodes that go away.

A worker is a Ray actor of `Host`. Which calls it does is the dispatcher's business.
"""

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

# How often drained nodes and workers that wait for room are looked for.
LOOK_UP_S = 1.0
_LOG_WAITING_S = 60.0


@dataclass(frozen=True)
class Location:
    """Where a worker is.

    Attributes:
        members: Names of the members that it carries.
        device: Index into the plan's devices.
        node_id: Ray's id of the node.
        gpus: CUDA_VISIBLE_DEVICES of the worker's process.
    """

    members: tuple[str, ...]
    device: int
    node_id: str
    gpus: str


@dataclass(eq=False)
class HostHandle:
    """What the driver knows of one worker.

    Attributes:
        plan: The members that it carries, and its share of a device.
        actor: Ray's handle of the actor.
        location: Reference to the answer of its first call, `Host.where`.
        calls: Calls under way by their reference, oldest first.
        not_before: Time on the monotonic clock until which it gets no call.
        node_id: Ray's id of its node; empty until it has started.
        gpus: CUDA_VISIBLE_DEVICES of its process.
        is_draining: Whether its node is taken back, so that it gets no more calls.
    """

    plan: HostPlan
    actor: Any
    location: Any
    calls: dict[Any, Call] = field(default_factory=dict)
    not_before: float = 0.0
    node_id: str = ""
    gpus: str = ""
    is_draining: bool = False


class HostGroup:
    """The workers on the devices of a run.

    Args:
        config: Settings of the Ray side.
        devices: GPUs or CPU processes that workers may be placed on.
        is_cluster: Whether nodes come and go, as they do unless Ray is embedded.
        host: Class of the worker actors.
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
        self._placement_groups = PlacementGroups(devices)
        self._last_look_up = self._last_move = time.monotonic()
        self.handles: list[HostHandle] = []

    def where(self) -> tuple[Location, ...]:
        """Tell where the workers are that have started."""
        return tuple(
            Location(handle.plan.members, handle.plan.device, handle.node_id, handle.gpus)
            for handle in self.handles
            if handle.node_id
        )

    def place(self, plans: Sequence[HostPlan]) -> None:
        """Have the workers of a plan: those of the same shape stay, others end or start.

        Args:
            plans: One for each worker.
        """
        to_start, handles = list(plans), []
        for handle in self.handles:
            same = next((p for p in to_start if p.shape == handle.plan.shape), None)
            if same is not None:
                to_start.remove(same)
                handle.plan = same
                handles.append(handle)
            elif self._devices[handle.plan.device].is_gpu:
                ray.kill(handle.actor)
            else:
                handle.plan = handle.plan.without_members()
                handles.append(handle)
        for index in {plan.device for plan in plans if plan.gpu_share == 1}:
            self._placement_groups.give_up(index)
        self.handles = [*handles, *(self._start(plan) for plan in to_start)]

    def replace(self, handle: HostHandle) -> None:
        """Start a new worker for one that is gone, or must go."""
        ray.kill(handle.actor)
        self.handles[self.handles.index(handle)] = self._start(handle.plan)

    def kind(self, handle: HostHandle) -> str:
        """Return the kind of device that a worker is on."""
        return self._devices[handle.plan.device].kind

    def is_alone(self, handle: HostHandle) -> bool:
        """Tell whether no other worker computes on the same device."""
        return not any(
            other.calls
            for other in self.handles
            if other is not handle and other.plan.device == handle.plan.device
        )

    def close(self) -> None:
        """End all workers, and give back the room that they had on the cluster."""
        for handle in self.handles:
            ray.kill(handle.actor)
        self._placement_groups.close()

    def look_up(self, is_moving: bool) -> list[HostHandle]:
        """Learn where workers are, which nodes are drained, and whether workers wait for room.

        It does so once in `LOOK_UP_S` seconds, however often it is called.

        Args:
            is_moving: Whether some call has ended just now.

        Returns:
            Workers to replace; room for the new ones is requested already.
        """
        now = time.monotonic()
        if is_moving:
            self._last_move = now
        if now - self._last_look_up < LOOK_UP_S:
            return []
        self._last_look_up = now
        for handle in self.handles:
            self._locate(handle)
        if not self._is_cluster:
            return []
        self._log_waiting(now)
        late = self._placement_groups.relax()
        return [
            *self._drained(),
            *(handle for handle in self.handles if handle.plan.device in late),
        ]

    def _log_waiting(self, now: float) -> None:
        waiting = sum(not handle.node_id for handle in self.handles)
        if waiting and now - self._last_move > _LOG_WAITING_S:
            self._last_move = now
            log.warning(
                "%d of %d workers wait for room; the cluster has %s",
                waiting,
                len(self.handles),
                {k: v for k, v in ray.cluster_resources().items() if k in {"CPU", "GPU"}},
            )

    def _locate(self, handle: HostHandle) -> None:
        if not handle.node_id and ray.wait([handle.location], timeout=0)[0]:
            try:
                handle.node_id, handle.gpus = ray.get(handle.location)
            except ray_exceptions.RayError:
                # Its calls fail the same way, and the dispatcher deals with them.
                handle.location = handle.actor.where.remote()

    def _drained(self) -> list[HostHandle]:
        """Mark workers whose node is taken back; return those that are idle, and so can move."""
        draining = ray._private.state.state.get_draining_nodes()
        for handle in self.handles:
            if handle.node_id in draining and not handle.is_draining:
                handle.is_draining = True
                log.warning(
                    "worker of %s: node %s is taken back; it ends %d calls and moves",
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
        # Ray would restart it in silence; the dispatcher replaces it itself, counts it and logs it.
        options = self._placement_groups.options(plan) | {"max_restarts": 0}
        actor = ray.remote(self._host).options(**options).remote(settings)
        return HostHandle(plan, actor, actor.where.remote())
