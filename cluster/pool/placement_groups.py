"""Room on the cluster for planned devices: node labels, and placement groups for shared GPUs.

The autoscaler sees workers and groups that wait for room, and adds nodes for those of every run. A request of its
own is not made: Ray keeps one for the whole cluster, so that a run would take back what another asked for.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cluster.scheduling.placement import Device, HostPlan

log = logging.getLogger(__name__)

# Seconds that a node of the preferred market may take to come up, before any market is accepted.
FALLBACK_AFTER_S = 180.0


class _Group:
    """The placement group of one shared GPU: it keeps the workers that share the GPU together."""

    def __init__(self, device: Device) -> None:
        self._bundle = {"GPU": 1.0, "CPU": device.cpus}
        self._selectors = list(device.selectors) or [{}]
        self._open()

    @property
    def strategy(self) -> PlacementGroupSchedulingStrategy:
        return PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=0)

    def waits_too_long(self) -> bool:
        """Tell whether there is a less preferred label, and the preferred one was waited for long enough."""
        if len(self._selectors) == 1 or time.monotonic() - self._since < FALLBACK_AFTER_S:
            return False
        return not ray.wait([self._ready], timeout=0)[0]

    def relax(self) -> Mapping[str, str]:
        """Request room with the next label; return that label."""
        remove_placement_group(self._group)
        self._selectors.pop(0)
        self._open()
        return self._selectors[0]

    def renew(self) -> None:
        """Request room on another node."""
        remove_placement_group(self._group)
        self._open()

    def close(self) -> None:
        remove_placement_group(self._group)

    def _open(self) -> None:
        selector = dict(self._selectors[0])
        self._group = placement_group(
            [self._bundle], bundle_label_selector=[selector] if selector else None
        )
        self._ready = self._group.ready()
        self._since = time.monotonic()


class PlacementGroups:
    """Room for the workers of each device.

    Args:
        devices: All devices of the run.
    """

    def __init__(self, devices: Sequence[Device]) -> None:
        self._devices = tuple(devices)
        self._groups: dict[int, _Group] = {}

    def options(self, plan: HostPlan) -> dict[str, Any]:
        """Return Ray's options for the actor of a worker."""
        options: dict[str, Any] = {"num_cpus": plan.cpu_share, "num_gpus": plan.gpu_share}
        device = self._devices[plan.device]
        if 0 < plan.gpu_share < 1:
            if plan.device not in self._groups:
                self._groups[plan.device] = _Group(device)
            return options | {"scheduling_strategy": self._groups[plan.device].strategy}
        first, *others = device.selectors or ({},)
        if first:
            options["label_selector"] = dict(first)
        if others:
            options["fallback_strategy"] = [{"label_selector": dict(other)} for other in others]
        return options

    def give_up(self, device: int) -> None:
        """Remove the placement group of a device whose workers are gone, if it has one."""
        if group := self._groups.pop(device, None):
            group.close()

    def renew(self, device: int) -> None:
        """Request room on another node for the placement group of a device, if it has one."""
        if group := self._groups.get(device):
            group.renew()

    def relax(self) -> list[int]:
        """Accept any market for devices that got no node of the preferred one in time; return those devices."""
        late = [index for index, group in self._groups.items() if group.waits_too_long()]
        for index in late:
            log.warning(
                "device %d: no node with %s within %.0f s; now with %s",
                index,
                dict(self._devices[index].selectors[0]),
                FALLBACK_AFTER_S,
                dict(self._groups[index].relax()) or "any labels",
            )
        return late

    def close(self) -> None:
        """Remove all placement groups."""
        for group in self._groups.values():
            group.close()
