"""A plan: members on devices, the workers that carry them, and when all will be done. Pure values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

# Ray counts shares in steps of 1e-4.
STEPS = 10_000
# What a process takes of a GPU before its first tensor, and what is left free for fragmentation.
CONTEXT_MB = 600.0
USABLE = 0.95

HostPer = Literal["member", "gpu"]


@dataclass(frozen=True)
class Device:
    """One GPU, or one process on CPUs.

    Attributes:
        kind: `cpu`, or the type of the GPU: members have one speed on each kind.
        memory_mb: Memory of the GPU; not counted on CPUs.
        cpus: CPUs that its workers share.
        selectors: Labels that its node must have, the preferred ones first; any node if empty.
    """

    kind: str = "cpu"
    memory_mb: float = float("inf")
    cpus: float = 1.0
    selectors: tuple[Mapping[str, str], ...] = ()

    @property
    def is_gpu(self) -> bool:
        """Whether it is a GPU."""
        return self.kind != "cpu"


@dataclass(frozen=True)
class Work:
    """What a member has to do.

    Attributes:
        name: Name of the member.
        seconds: Seconds that all of it takes on one whole device, by kind of device.
        memory_mb: Peak memory of weights and one batch.
        blocks: Number of blocks, which can be divided among workers.
        batch_mb: Part of the memory that is no weights, which members of one process use in turn.
    """

    name: str
    seconds: Mapping[str, float]
    memory_mb: float = 0.0
    blocks: int = 1
    batch_mb: float = 0.0


@dataclass(frozen=True)
class Share:
    """A member on a device.

    Attributes:
        member: Name of the member.
        device: Index into the plan's devices.
        fraction: Part of the member's work; less than 1 where replicas do the rest.
        seconds: Seconds that this part takes.
        memory_mb: Memory that the member holds there.
        batch_mb: Part of the memory that is no weights, which members of one process use in turn.
    """

    member: str
    device: int
    fraction: float
    seconds: float
    memory_mb: float
    batch_mb: float = 0.0


@dataclass(frozen=True)
class HostPlan:
    """One worker: the members that it carries, and its share of the cluster.

    Attributes:
        members: Names of the members.
        device: Index into the plan's devices.
        cpu_share: Number of CPUs, or part of one.
        gpu_share: Part of one GPU; 0 on CPUs.
        memory_fraction: Part of the GPU's memory that torch may take.
        fractions: Part of each member's work, in the order of `members`; all of it if empty.
    """

    members: tuple[str, ...]
    device: int = 0
    cpu_share: float = 1.0
    gpu_share: float = 0.0
    memory_fraction: float = 1.0
    fractions: tuple[float, ...] = ()

    @property
    def threads(self) -> int:
        """CPU threads of torch: no more than the CPUs it takes, and one where it takes part of one."""
        return max(1, int(self.cpu_share))

    @property
    def shape(self) -> tuple[int, float, float, float]:
        """What cannot change while the worker runs."""
        return self.device, self.cpu_share, self.gpu_share, self.memory_fraction

    def without_members(self) -> "HostPlan":
        """Return the plan of the same worker with no members."""
        return replace(self, members=(), fractions=())


@dataclass(frozen=True)
class Plan:
    """Members on devices, wave after wave.

    Attributes:
        devices: All devices that may be used.
        waves: Shares that are in memory together; each wave decodes the images again.
        host_per: Whether each member has a worker of its own, or each GPU one for all of its members.
    """

    devices: tuple[Device, ...]
    waves: tuple[tuple[Share, ...], ...]
    host_per: HostPer = "member"

    def loads(self, wave: Sequence[Share]) -> list[float]:
        """Return the seconds that each device computes in a wave."""
        return [
            sum(share.seconds for share in wave if share.device == index)
            for index in range(len(self.devices))
        ]

    @property
    def seconds(self) -> float:
        """Seconds that all waves take."""
        return sum(max(self.loads(wave)) for wave in self.waves)

    @property
    def gpu_hours(self) -> float:
        """GPU-hours of all waves; a GPU is held until its wave ends, also if it ends sooner itself."""
        num_gpus = sum(device.is_gpu for device in self.devices)
        return num_gpus * self.seconds / 3600

    @property
    def replicas(self) -> dict[str, int]:
        """Number of workers by member, for members that more than one carries."""
        counts: dict[str, int] = {}
        for share in (share for wave in self.waves for share in wave):
            counts[share.member] = counts.get(share.member, 0) + 1
        return {name: count for name, count in counts.items() if count > 1}

    def memory_mb(self, wave: Sequence[Share], index: int) -> float:
        """Return the memory that a device holds in a wave, contexts included."""
        return held_mb([s for s in wave if s.device == index], self.devices[index], self.host_per)

    def hosts(self, number: int) -> tuple[HostPlan, ...]:
        """Return the plans of the workers of a wave, device by device."""
        return tuple(
            host
            for index, device in enumerate(self.devices)
            for host in hosts_on(
                index, device, [s for s in self.waves[number] if s.device == index], self.host_per
            )
        )


def whole_devices(devices: Sequence[Device]) -> tuple[HostPlan, ...]:
    """Plan one worker without members on each whole device: for trainings and measurements."""
    return tuple(
        HostPlan((), index, _floor(device.cpus), 1.0, USABLE)
        if device.is_gpu
        else HostPlan((), index, _floor(device.cpus))
        for index, device in enumerate(devices)
    )


def held_mb(shares: Sequence[Share], device: Device, host_per: HostPer) -> float:
    """Return the memory that members hold on a device, contexts included; 0 on CPUs.

    A process computes one batch at a time, so that its members share the memory of the largest one.
    """
    if not device.is_gpu or not shares:
        return 0.0
    if host_per == "member":
        return sum(share.memory_mb for share in shares) + len(shares) * CONTEXT_MB
    weights_mb = sum(share.memory_mb - share.batch_mb for share in shares)
    return weights_mb + max(share.batch_mb for share in shares) + CONTEXT_MB


def hosts_on(
    index: int, device: Device, shares: Sequence[Share], host_per: HostPer
) -> list[HostPlan]:
    """Plan the workers of one device.

    Args:
        index: Index of the device in the plan.
        device: The device.
        shares: Members on it.
        host_per: Whether each member has a worker of its own, or all of them one.
    """
    names = tuple(share.member for share in shares)
    fractions = tuple(share.fraction for share in shares)
    if not names:
        return []
    if not device.is_gpu:
        return [HostPlan(names, index, _floor(device.cpus), fractions=fractions)]
    if host_per == "gpu":
        return [HostPlan(names, index, _floor(device.cpus), 1.0, USABLE, fractions)]
    held = held_mb(shares, device, host_per)
    cpu_share = _floor(device.cpus / len(shares))
    return [
        HostPlan(
            (share.member,),
            index,
            cpu_share,
            # What is left over is shared out too: fragments need room.
            _floor((share.memory_mb + CONTEXT_MB) / held),
            _memory_fraction(share.memory_mb, held, device.memory_mb),
            (share.fraction,),
        )
        for share in shares
    ]


def _memory_fraction(memory_mb: float, held_mb: float, device_mb: float) -> float:
    """Return torch's part of a GPU: its process's part, less the context, which torch does not count."""
    if device_mb == float("inf"):
        return 1.0
    whole = (memory_mb + CONTEXT_MB) / held_mb * USABLE * device_mb
    return _floor((whole - CONTEXT_MB) / device_mb)


def _floor(share: float) -> float:
    return max(1, int(share * STEPS + 1e-6)) / STEPS if share < 1 else float(int(share + 1e-9))
