"""Make a plan for members on devices: longest first, then replicas until all devices end together. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cluster.scheduling.placement import (
    CONTEXT_MB,
    USABLE,
    Device,
    HostPer,
    Plan,
    Share,
    Work,
    held_mb,
)
from ensemble.errors import ClusterError

# A replica that would take less of a member's work than this is not worth its memory.
_LEAST_FRACTION = 0.02
_BALANCED = 0.005


def make_plan(
    works: Sequence[Work], devices: Sequence[Device], host_per: HostPer = "member"
) -> Plan:
    """Spread members over devices so that all end together.

    Longest processing time first, into whatever memory is left; then parts of members move from the
    device that ends last to those that end first, as replicas. Members for which no device has memory
    left make another wave. Without replicas, on equal devices with memory to spare, the longest device is
    within 4/3 of the best schedule's.

    Args:
        works: What each member has to do.
        devices: GPUs, or processes on CPUs.
        host_per: Whether each member gets a worker of its own, or each GPU one for all of its members.

    Raises:
        ClusterError: A member fits on no device.

    Source: Graham 1969, "Bounds on multiprocessing timing anomalies", for the packing; McNaughton
        1959 for what divisible work can reach, which is the mean of the loads.
    """
    for work in works:
        _check_fits(work, devices, host_per)
    orders = (
        sorted(works, key=lambda w: (-min(w.seconds.values()), w.name)),
        sorted(works, key=lambda w: (-w.memory_mb, -min(w.seconds.values()), w.name)),
    )
    plans = [Plan(tuple(devices), _waves(order, devices, host_per), host_per) for order in orders]
    return min(plans, key=lambda plan: (len(plan.waves), plan.seconds))


def lower_bound(works: Sequence[Work], devices: Sequence[Device]) -> float:
    """Return the seconds that no schedule can beat: each device busy, each member where it is fastest."""
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
    waves, remaining = [], list(order)
    while remaining:
        wave, remaining = _pack(remaining, devices, host_per)
        by_name = {work.name: work for work in order}
        waves.append(tuple(_balance(wave, by_name, devices, host_per)))
    return tuple(waves)


def _pack(
    works: Sequence[Work], devices: Sequence[Device], host_per: HostPer
) -> tuple[list[Share], list[Work]]:
    """Place each member where it ends first; return the shares, and the members that fit nowhere."""
    shares: list[Share] = []
    misfits: list[Work] = []
    for work in works:
        ends = [
            (sum(s.seconds for s in shares if s.device == index) + work.seconds[device.kind], index)
            for index, device in enumerate(devices)
            if _has_memory(shares, index, work, device, host_per)
        ]
        if not ends:
            misfits.append(work)
            continue
        index = min(ends)[1]
        seconds = work.seconds[devices[index].kind]
        shares.append(Share(work.name, index, 1.0, seconds, work.memory_mb, work.batch_mb))
    return shares, misfits


def _balance(
    shares: list[Share], works: Mapping[str, Work], devices: Sequence[Device], host_per: HostPer
) -> list[Share]:
    """Move parts of members from the device that ends last to those that end first."""
    for _ in range(4 * len(devices)):
        loads = [sum(s.seconds for s in shares if s.device == i) for i in range(len(devices))]
        last = max(range(len(devices)), key=lambda i: (loads[i], -i))
        after = None
        for first in sorted(range(len(devices)), key=lambda i: (loads[i], i)):
            if loads[last] - loads[first] <= _BALANCED * loads[last]:
                break
            after = _best_move(shares, works, devices, host_per, (last, first), loads)
            if after is not None:
                break
        if after is None:
            break
        shares = after
    return sorted(shares, key=lambda s: (s.device, -s.seconds, s.member))


def _best_move(
    shares: list[Share],
    works: Mapping[str, Work],
    devices: Sequence[Device],
    host_per: HostPer,
    between: tuple[int, int],
    loads: list[float],
) -> list[Share] | None:
    """Return the shares after the move that lets two devices end soonest; none if no move does."""
    last, first = between
    moves: list[tuple[float, bool, float, str, list[Share]]] = []
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
        after = _move(shares, share, first, part, (here_s, there_s))
        moves.append((end, not there, work.memory_mb, share.member, after))
    return min(moves, key=lambda move: move[:4])[4] if moves else None


def _move(
    shares: list[Share], share: Share, to: int, part: float, seconds: tuple[float, float]
) -> list[Share]:
    here_s, there_s = seconds
    after = [s for s in shares if s is not share]
    if share.fraction - part > 1e-12:
        rest = share.fraction - part
        after.append(replace(share, fraction=rest, seconds=rest * here_s))
    for replica in after:
        if replica.device == to and replica.member == share.member:
            after.remove(replica)
            part += replica.fraction
            break
    return [*after, replace(share, device=to, fraction=part, seconds=part * there_s)]


def _has_memory(
    shares: Sequence[Share], index: int, work: Work, device: Device, host_per: HostPer
) -> bool:
    there = [s for s in shares if s.device == index]
    added = Share(work.name, index, 1.0, 0.0, work.memory_mb, work.batch_mb)
    return held_mb([*there, added], device, host_per) <= device.memory_mb * USABLE
