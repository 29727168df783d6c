"""The roster: host actors, where each one is, and when it must move."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import exceptions as ray_errors

from cluster.pool.host import Host, HostSettings
from cluster.pool.placement_groups import Slots
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
class Worker:
    """A host actor and the calls under way on it, oldest first."""

    plan: HostPlan
    actor: Any
    started: Any
    calls: dict[Any, Call] = field(default_factory=dict)
    not_before: float = 0.0
    node_id: str = ""
    gpus: str = ""
    is_draining: bool = False


class Roster:
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
        self._slots = Slots(devices, scales=is_cluster)
        self._looked_up = self._moved = time.monotonic()
        self.workers: list[Worker] = []

    def where(self) -> tuple[Location, ...]:
        """Where the hosts are that have started."""
        return tuple(
            Location(w.plan.members, w.plan.device, w.node_id, w.gpus)
            for w in self.workers
            if w.node_id
        )

    def place(self, plans: Sequence[HostPlan]) -> None:
        """Have hosts as planned: those of the same shape stay, others end or start."""
        wanted, kept = list(plans), []
        for worker in self.workers:
            same = next((p for p in wanted if p.shape == worker.plan.shape), None)
            if same is not None:
                wanted.remove(same)
                worker.plan = same
                kept.append(worker)
            elif self._devices[worker.plan.device].is_gpu:
                ray.kill(worker.actor)
            else:
                worker.plan = worker.plan.without_members()
                kept.append(worker)
        for index in {plan.device for plan in plans if plan.gpu_share == 1}:
            self._slots.give_up(index)
        self.workers = [*kept, *(self._start(plan) for plan in wanted)]

    def replace(self, worker: Worker) -> None:
        """Start a new host for one that is gone, or must go."""
        ray.kill(worker.actor)
        self.workers[self.workers.index(worker)] = self._start(worker.plan)

    def kind(self, worker: Worker) -> str:
        """What kind of device a host is on."""
        return self._devices[worker.plan.device].kind

    def is_alone(self, worker: Worker) -> bool:
        """Whether no other host computes on its device."""
        return not any(
            other.calls
            for other in self.workers
            if other is not worker and other.plan.device == worker.plan.device
        )

    def close(self) -> None:
        """End all hosts and give back what the cluster lent."""
        for worker in self.workers:
            ray.kill(worker.actor)
        self._slots.close()

    def look_up(self, is_moving: bool) -> list[Worker]:
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
        for worker in self.workers:
            self._locate(worker)
        if not self._is_cluster:
            return []
        self._say_who_waits(now)
        late = self._slots.relax()
        return [*self._drained(), *(w for w in self.workers if w.plan.device in late)]

    def _say_who_waits(self, now: float) -> None:
        waiting = sum(not worker.node_id for worker in self.workers)
        if waiting and now - self._moved > _SAY_WAITING_S:
            self._moved = now
            log.warning(
                "%d of %d hosts wait for room; the cluster has %s",
                waiting,
                len(self.workers),
                {k: v for k, v in ray.cluster_resources().items() if k in {"CPU", "GPU"}},
            )

    def _locate(self, worker: Worker) -> None:
        if not worker.node_id and ray.wait([worker.started], timeout=0)[0]:
            try:
                worker.node_id, worker.gpus = ray.get(worker.started)
            except ray_errors.RayError:
                # Its calls fail the same way, and that is where it is dealt with.
                worker.started = worker.actor.where.remote()

    def _drained(self) -> list[Worker]:
        """Hosts whose node is taken back: they get no more calls, and move once they are idle."""
        draining = ray._private.state.state.get_draining_nodes()
        for worker in self.workers:
            if worker.node_id in draining and not worker.is_draining:
                worker.is_draining = True
                log.warning(
                    "host of %s: node %s is taken back; it ends %d calls and moves",
                    ", ".join(worker.plan.members) or "no member",
                    worker.node_id[:8],
                    len(worker.calls),
                )
        leaving = [worker for worker in self.workers if worker.is_draining]
        busy = {worker.plan.device for worker in leaving if worker.calls}
        idle = [worker for worker in leaving if worker.plan.device not in busy]
        for index in {worker.plan.device for worker in idle}:
            self._slots.renew(index)
        return idle

    def _start(self, plan: HostPlan) -> Worker:
        device = "cuda" if self._devices[plan.device].is_gpu else "cpu"
        threads = plan.threads if device == "cuda" else 1
        config = self._config
        settings = HostSettings(
            device, threads, plan.memory_fraction, config.channels_last, config.compile
        )
        # Ray would restart it in silence; the crew replaces it itself, counts and says so.
        options = self._slots.options(plan) | {"max_restarts": 0}
        actor = ray.remote(self._host).options(**options).remote(settings)
        return Worker(plan, actor, actor.where.remote())
