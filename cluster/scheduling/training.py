"""Workers for trainings: as many on a GPU as its memory holds, and what they predict between trainings. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from cluster.scheduling.packing import make_plan
from cluster.scheduling.placement import (
    CONTEXT_MB,
    USABLE,
    Device,
    HostPlan,
    Share,
    Work,
    held_mb,
    hosts_on,
    whole_devices,
)

# A training that is fed by less of a CPU than this keeps its part of the GPU waiting.
_LEAST_CPUS = 0.5


def training_hosts(
    devices: Sequence[Device], memory_mb: float | None, num_trainings: int
) -> tuple[HostPlan, ...]:
    """Plan workers for trainings, with equal shares of a GPU where several trainings fit into its memory.

    A process counts as it does for members: its peak and a context. No GPU gets more workers than there are
    trainings for, and where there is one for each GPU none is shared.

    Args:
        devices: GPUs, or processes on CPUs, which are not shared.
        memory_mb: Peak memory of the largest training; None if it was not measured.
        num_trainings: Number of trainings that wait.
    """
    most = -(-num_trainings // max(1, len(devices)))
    hosts: list[HostPlan] = []
    for whole in whole_devices(devices):
        device = devices[whole.device]
        count = _num_sharing(device, memory_mb, most)
        shares = [Share("", whole.device, 1.0, 0.0, memory_mb or 0.0)] * count
        of_device = hosts_on(whole.device, device, shares, "member") if count > 1 else [whole]
        hosts += [host.without_members() for host in of_device]
    return tuple(hosts)


def _num_sharing(device: Device, memory_mb: float | None, most: int) -> int:
    """Number of trainings that a device does at a time."""
    if not device.is_gpu or memory_mb is None or device.memory_mb == float("inf"):
        return 1
    count, most = 1, min(most, int(device.cpus / _LEAST_CPUS))
    while count < most and _held(device, memory_mb, count + 1) <= device.memory_mb * USABLE:
        count += 1
    return count


def _held(device: Device, memory_mb: float, count: int) -> float:
    return held_mb([Share("", 0, 1.0, 0.0, memory_mb)] * count, device, "member")


def with_members(
    hosts: Sequence[HostPlan], works: Sequence[Work], devices: Sequence[Device]
) -> tuple[HostPlan, ...]:
    """Have the workers of trainings carry members too, so that they predict when nothing is left to train.

    A worker carries no more than fits beside nothing else into its part of the GPU: a training lets its
    memory go. Members that fit nowhere are left out.

    Args:
        hosts: Workers for trainings.
        works: What each member has to predict.
        devices: Devices that the workers are on.
    """
    rooms = [_room(host, devices[host.device]) for host in hosts]
    largest = max((room.memory_mb for room in rooms), default=0.0) * USABLE
    works = [work for work in works if work.memory_mb + CONTEXT_MB <= largest]
    if not works or any(room.is_gpu and room.memory_mb == float("inf") for room in rooms):
        return tuple(hosts)
    first_wave = make_plan(works, rooms, "gpu").waves[0]
    shares = [[share for share in first_wave if share.device == i] for i in range(len(hosts))]
    return tuple(
        replace(
            host,
            members=tuple(share.member for share in carried),
            fractions=tuple(share.fraction for share in carried),
        )
        for host, carried in zip(hosts, shares, strict=True)
    )


def _room(host: HostPlan, device: Device) -> Device:
    """The part of a device that a worker has, as a device of its own."""
    if not device.is_gpu:
        return device
    return replace(device, memory_mb=host.memory_fraction * device.memory_mb, cpus=host.cpu_share)
