"""What a device did in a span of time: kernels, copies, and the gaps in which it did nothing. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["arithmetic", "copies", "other"]

# Parts of the names of kernels that do a network's convolutions and matrix products; and of copies.
# `nvjet` is cuBLAS's own for Hopper. Not `cudnn`: its batch normalisation is no arithmetic in this sense.
_NVIDIA = (
    "conv",
    "gemm",
    "cutlass",
    "xmma",
    "winograd",
    "nvjet",
    "scudnn",
    "fprop",
    "dgrad",
    "wgrad",
)
_ARITHMETIC = (*_NVIDIA, "addmm", "::linear")
_COPIES = ("memcpy", "memset", "copy", "converttensor", "nchwtonhwc", "nhwctonchw")


@dataclass(frozen=True)
class Activity:
    """One thing that the device did.

    Attributes:
        name: Name of the kernel or copy.
        start_us: Begin, in microseconds.
        end_us: End, in microseconds.
    """

    name: str
    start_us: float
    end_us: float


@dataclass(frozen=True)
class Account:
    """Where the time of a device went.

    Attributes:
        launches: Number of kernels and copies.
        copies: Number of copies among them.
        span_ms: Time from the first begin to the last end.
        shares: Share of the span in arithmetic, copies, other kernels, and in gaps (`idle`).
        longest: The five kernels that took longest in all, with their share of the span.
    """

    launches: int
    copies: int
    span_ms: float
    shares: dict[str, float]
    longest: dict[str, float]

    def advice(self) -> str:
        """Say what would bring the next 10 %: what takes most time beside arithmetic."""
        losses = {name: share for name, share in self.shares.items() if name != "arithmetic"}
        if not losses or max(losses.values()) < 0.05:
            return "nothing but faster arithmetic"
        worst = max(losses, key=losses.__getitem__)
        what = {
            "idle": "fewer gaps: larger batches, CUDA graphs or fewer launches",
            "copies": "fewer copies: of layouts, precisions or to the device",
            "other": "fewer element-wise kernels: fusing them, as compiling does",
        }[worst]
        return f"{what} ({losses[worst]:.0%} of the time)"


def account(activities: Sequence[Activity]) -> Account:
    """Add up what a device did; activities may overlap, and what overlaps is counted for the earlier one.

    Args:
        activities: Kernels and copies in any order.
    """
    ordered = sorted(activities, key=lambda a: (a.start_us, a.end_us))
    if not ordered:
        return Account(0, 0, 0.0, {}, {})
    busy, by_name = Counter[str](), Counter[str]()
    now = start = ordered[0].start_us
    for activity in ordered:
        took = max(0.0, activity.end_us - max(now, activity.start_us))
        busy[kind_of(activity.name)] += took  # type: ignore[assignment]
        by_name[activity.name] += took  # type: ignore[assignment]
        now = max(now, activity.end_us)
    span = max(now - start, 1e-9)
    shares = {kind: busy[kind] / span for kind in ("arithmetic", "copies", "other")}
    return Account(
        launches=len(ordered),
        copies=sum(kind_of(activity.name) == "copies" for activity in ordered),
        span_ms=span / 1e3,
        shares=shares | {"idle": max(0.0, 1 - sum(shares.values()))},
        longest={name[:80]: took / span for name, took in by_name.most_common(5)},
    )


def kind_of(name: str) -> Kind:
    """Tell copies and arithmetic from other kernels by the name."""
    lower = name.lower()
    if any(part in lower for part in _COPIES):
        return "copies"
    return "arithmetic" if any(part in lower for part in _ARITHMETIC) else "other"
