"""A plan as a document, for programs."""

from typing import Literal

from ensemble.config import Config


class PlacedMember(Config):
    """A member on a host."""

    name: str
    """Of the member."""
    fraction: float
    """Of its work; less than 1 where replicas do the rest."""
    seconds: float
    """What that takes on a device of its own; no unit where costs are not known."""
    memory_mb: float
    """Peak of its weights and one batch; 0 on CPUs."""


class PlannedHost(Config):
    """A process."""

    device: str
    """Which one of which kind."""
    gpu_share: float
    """Of one GPU."""
    cpus: float
    """CPUs, which are also its threads."""
    members: tuple[PlacedMember, ...]
    """What it carries."""


class PlannedWave(Config):
    """Hosts that work at the same time."""

    seconds: float
    """Until the last one ends."""
    hosts: tuple[PlannedHost, ...]
    """Device by device."""


class PlanDocument(Config):
    """What `ensemble plan --json` prints."""

    schema_version: Literal[1] = 1
    """Version of this format."""
    images: int
    """That every member predicts."""
    has_costs: bool
    """Whether every member's cost is known; seconds mean nothing if not."""
    unknown: tuple[str, ...]
    """Members whose cost is not known."""
    waves: tuple[PlannedWave, ...]
    """One after the other."""
    seconds: float | None
    """Expected of all forward passes, if nothing is cached."""
    lower_bound_s: float | None
    """That no schedule can beat on these devices."""
    gpu_hours: float | None
    """GPUs held, times how long."""
    shards: int
    """Decoded each wave."""
    shards_in_flight: int
    """Kept decoded at a time, at most."""
    shard_mb: float
    """Of one decoded shard, from a sample of the images."""
    object_store_mb: float
    """Of all shards in flight, on each node that has hosts."""
    lines: tuple[str, ...]
    """The same in words."""
