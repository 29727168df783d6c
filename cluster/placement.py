"""Which host carries which members, and when all will be done. Pure: facts in, plan out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ensemble.errors import ClusterError

# Ray counts shares in steps of 1e-4.
STEPS = 10_000
# What a process takes of a GPU before its first tensor, and what is left free for fragmentation.
CONTEXT_MB = 600.0
USABLE = 0.95
# A replica that would take less of a member's work than this is not worth its memory.
_LEAST_FRACTION = 0.02
_BALANCED = 0.005

HostPer = Literal["member", "gpu"]


@dataclass(frozen=True)
class Device:
    """One GPU, or one process on CPUs.

    Attributes:
        kind: `cpu`, or the type of the GPU: members have one speed on each kind.
        memory_mb: Of the GPU; not counted on CPUs.
        cpus: CPUs that its hosts share.
        selectors: Labels that its node must have, the preferred ones first; any node if empty.
    """

    kind: str = "cpu"
    memory_mb: float = float("inf")
    cpus: float = 1.0
    selectors: tuple[Mapping[str, str], ...] = ()

    @property
    def is_gpu(self) -> bool:
        """Whether it is one."""
        return self.kind != "cpu"


@dataclass(frozen=True)
class Work:
    """What a member has to do.

    Attributes:
        name: Of the member.
        seconds: What all of it takes on one whole device, by kind.
        memory_mb: Peak of weights and one batch.
        blocks: Pieces that it can be divided into.
    """

    name: str
    seconds: Mapping[str, float]
    memory_mb: float = 0.0
    blocks: int = 1


@dataclass(frozen=True)
class Share:
    """A member on a device.

    Attributes:
        member: Its name.
        device: Index into the plan's devices.
        fraction: Of its work; less than 1 where replicas do the rest.
        seconds: What that takes.
        memory_mb: What it holds there.
    """

    member: str
    device: int
    fraction: float
    seconds: float
    memory_mb: float


@dataclass(frozen=True)
class HostPlan:
    """One process: the members it carries, and what it takes of the cluster (no GPU on CPUs).

    Attributes:
        members: Names.
        device: Index into the plan's devices.
        cpu_share: CPUs.
        gpu_share: Of one GPU.
        memory_fraction: Of the GPU's memory that torch may take.
        fractions: Of each member's work; all of it where none are told.
    """

    members: tuple[str, ...]
    device: int = 0
    cpu_share: float = 1.0
    gpu_share: float = 0.0
    memory_fraction: float = 1.0
    fractions: tuple[float, ...] = ()

    @property
    def threads(self) -> int:
        """CPU threads of torch; their sum never exceeds the CPUs that hosts take."""
        return max(1, int(self.cpu_share))

    @property
    def shape(self) -> tuple[int, float, float, float]:
        """What cannot change while it runs."""
        return self.device, self.cpu_share, self.gpu_share, self.memory_fraction

    def without_members(self) -> "HostPlan":
        """The same process with nothing assigned."""
        return replace(self, members=(), fractions=())


@dataclass(frozen=True)
class Plan:
    """Members on devices, wave after wave.

    Attributes:
        devices: Everything that may be used.
        waves: Members that are in memory together; each wave decodes the images again.
    """

    devices: tuple[Device, ...]
    waves: tuple[tuple[Share, ...], ...]
    host_per: HostPer = "member"

    def loads(self, wave: Sequence[Share]) -> list[float]:
        """Seconds that each device computes in a wave."""
        return [
            sum(share.seconds for share in wave if share.device == index)
            for index in range(len(self.devices))
        ]

    @property
    def seconds(self) -> float:
        """What all waves take."""
        return sum(max(self.loads(wave)) for wave in self.waves)

    @property
    def gpu_hours(self) -> float:
        """GPUs are held until the wave ends, also by those that end sooner."""
        num_gpus = sum(device.is_gpu for device in self.devices)
        return num_gpus * self.seconds / 3600

    @property
    def replicas(self) -> dict[str, int]:
        """How many hosts carry each member that more than one carries."""
        counts: dict[str, int] = {}
        for share in (share for wave in self.waves for share in wave):
            counts[share.member] = counts.get(share.member, 0) + 1
        return {name: count for name, count in counts.items() if count > 1}

    def memory_mb(self, wave: Sequence[Share], index: int) -> float:
        """What a device holds in a wave, contexts included."""
        return _held_mb([s for s in wave if s.device == index], self.devices[index], self.host_per)

    def hosts(self, number: int) -> tuple[HostPlan, ...]:
        """The processes of a wave, device by device."""
        return tuple(
            host
            for index, device in enumerate(self.devices)
            for host in _hosts_on(
                index, device, [s for s in self.waves[number] if s.device == index], self.host_per
            )
        )


def whole_devices(devices: Sequence[Device]) -> tuple[HostPlan, ...]:
    """One host with nothing assigned on each whole device: for trainings and measurements."""
    return tuple(
        HostPlan((), index, _floor(device.cpus), 1.0, USABLE)
        if device.is_gpu
        else HostPlan((), index, _floor(device.cpus))
        for index, device in enumerate(devices)
    )


def plan(works: Sequence[Work], devices: Sequence[Device], host_per: HostPer = "member") -> Plan:
    """Spread members over devices so that all end together.

    Longest processing time first, into whatever memory is left; then parts of members move from the
    device that ends last to those that end first, as replicas. Members that find no memory make
    another wave. Without replicas, on equal devices with memory to spare, the longest device is
    within 4/3 of the best schedule's.

    Source: Graham 1969, "Bounds on multiprocessing timing anomalies", for the packing; McNaughton
        1959 for what divisible work can reach, which is the mean of the loads.

    Raises:
        ClusterError: A member fits on no device; told with the numbers.
    """
    for work in works:
        _check_fits(work, devices, host_per)
    orders = (
        sorted(works, key=lambda w: (-min(w.seconds.values()), w.name)),
        sorted(works, key=lambda w: (-w.memory_mb, -min(w.seconds.values()), w.name)),
    )
    plans = [Plan(tuple(devices), _waves(order, devices, host_per), host_per) for order in orders]
    return min(plans, key=lambda found: (len(found.waves), found.seconds))


def lower_bound(works: Sequence[Work], devices: Sequence[Device]) -> float:
    """Seconds that no schedule can beat: every device busy, every member where it is fastest."""
    return sum(min(work.seconds[d.kind] for d in devices) for work in works) / len(devices)


def _check_fits(work: Work, devices: Sequence[Device], host_per: HostPer) -> None:
    needs = work.memory_mb + CONTEXT_MB
    largest = max(device.memory_mb for device in devices)
    if needs > largest * USABLE:
        raise ClusterError(
            f"the member {work.name!r} needs {work.memory_mb:,.0f} MB of GPU memory and a process "
            f"{CONTEXT_MB:,.0f} MB, and the largest GPU has {largest * USABLE:,.0f} MB usable of "
            f"{largest:,.0f} MB. Expected a GPU that holds it; set cluster.gpus, a smaller "
            "precision, or leave the member out."
        )


def _waves(
    order: Sequence[Work], devices: Sequence[Device], host_per: HostPer
) -> tuple[tuple[Share, ...], ...]:
    waves, left = [], list(order)
    while left:
        wave, left = _pack(left, devices, host_per)
        by_name = {work.name: work for work in order}
        waves.append(tuple(_balance(wave, by_name, devices, host_per)))
    return tuple(waves)


def _pack(
    works: Sequence[Work], devices: Sequence[Device], host_per: HostPer
) -> tuple[list[Share], list[Work]]:
    """Place each work where it ends first; return what found no memory too."""
    shares: list[Share] = []
    left: list[Work] = []
    for work in works:
        ends = [
            (sum(s.seconds for s in shares if s.device == index) + work.seconds[device.kind], index)
            for index, device in enumerate(devices)
            if _has_memory(shares, index, work, device, host_per)
        ]
        if not ends:
            left.append(work)
            continue
        index = min(ends)[1]
        seconds = work.seconds[devices[index].kind]
        shares.append(Share(work.name, index, 1.0, seconds, work.memory_mb))
    return shares, left


def _balance(
    shares: list[Share], works: Mapping[str, Work], devices: Sequence[Device], host_per: HostPer
) -> list[Share]:
    """Move parts of members from the device that ends last to those that end first."""
    for _ in range(4 * len(devices)):
        loads = [sum(s.seconds for s in shares if s.device == i) for i in range(len(devices))]
        last = max(range(len(devices)), key=lambda i: (loads[i], -i))
        moved = None
        for first in sorted(range(len(devices)), key=lambda i: (loads[i], i)):
            if loads[last] - loads[first] <= _BALANCED * loads[last]:
                break
            moved = _best_move(shares, works, devices, host_per, (last, first), loads)
            if moved is not None:
                break
        if moved is None:
            break
        shares = moved
    return sorted(shares, key=lambda s: (s.device, -s.seconds, s.member))


def _best_move(
    shares: list[Share],
    works: Mapping[str, Work],
    devices: Sequence[Device],
    host_per: HostPer,
    between: tuple[int, int],
    loads: list[float],
) -> list[Share] | None:
    """The shares after the move that lets two devices end soonest; none if nothing may move."""
    last, first = between
    found: list[tuple[float, bool, float, str, list[Share]]] = []
    for share in (s for s in shares if s.device == last):
        work = works[share.member]
        there = [s for s in shares if s.device == first and s.member == share.member]
        if not there and not _has_memory(shares, first, work, devices[first], host_per):
            continue
        here_s, there_s = work.seconds[devices[last].kind], work.seconds[devices[first].kind]
        part = min(share.fraction, (loads[last] - loads[first]) / (here_s + there_s))
        if part < share.fraction and part < max(_LEAST_FRACTION, 1 / work.blocks):
            continue
        end = max(loads[last] - part * here_s, loads[first] + part * there_s)
        if end >= loads[last]:
            continue
        after = _moved(shares, share, first, part, (here_s, there_s))
        found.append((end, not there, work.memory_mb, share.member, after))
    return min(found, key=lambda row: row[:4])[4] if found else None


def _moved(
    shares: list[Share], share: Share, to: int, part: float, seconds: tuple[float, float]
) -> list[Share]:
    here_s, there_s = seconds
    kept = [s for s in shares if s is not share]
    if share.fraction - part > 1e-12:
        left = share.fraction - part
        kept.append(replace(share, fraction=left, seconds=left * here_s))
    for there in kept:
        if there.device == to and there.member == share.member:
            kept.remove(there)
            part += there.fraction
            break
    return [*kept, Share(share.member, to, part, part * there_s, share.memory_mb)]


def _has_memory(
    shares: Sequence[Share], index: int, work: Work, device: Device, host_per: HostPer
) -> bool:
    there = [s for s in shares if s.device == index]
    added = Share(work.name, index, 1.0, 0.0, work.memory_mb)
    return _held_mb([*there, added], device, host_per) <= device.memory_mb * USABLE


def _held_mb(shares: Sequence[Share], device: Device, host_per: HostPer) -> float:
    if not device.is_gpu or not shares:
        return 0.0
    contexts = len(shares) if host_per == "member" else 1
    return sum(share.memory_mb for share in shares) + contexts * CONTEXT_MB


def _hosts_on(
    index: int, device: Device, shares: Sequence[Share], host_per: HostPer
) -> list[HostPlan]:
    names = tuple(share.member for share in shares)
    fractions = tuple(share.fraction for share in shares)
    if not names:
        return []
    if not device.is_gpu:
        return [HostPlan(names, index, _floor(device.cpus), fractions=fractions)]
    if host_per == "gpu":
        return [HostPlan(names, index, _floor(device.cpus), 1.0, USABLE, fractions)]
    held = _held_mb(shares, device, host_per)
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
    """Torch's part of a GPU: its process's, without the context that torch does not count."""
    if device_mb == float("inf"):
        return 1.0
    whole = (memory_mb + CONTEXT_MB) / held_mb * USABLE * device_mb
    return _floor((whole - CONTEXT_MB) / device_mb)


def _floor(share: float) -> float:
    return max(1, int(share * STEPS + 1e-6)) / STEPS if share < 1 else float(int(share + 1e-9))
