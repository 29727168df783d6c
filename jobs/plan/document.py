"""The plan of a run as a document: what `ensemble plan --json` prints."""

from typing import Literal

from ensemble.config import Config


class PlacedMember(Config):
    """A member on a host."""

    name: str
    """Name of the member."""
    fraction: float
    """Share of the member's work; less than 1 where replicas do the rest."""
    seconds: float
    """Seconds that the share takes on a device of its own; without meaning where costs are unknown."""
    memory_mb: float
    """Peak memory of the member's weights and one batch; 0 on CPUs."""


class PlannedHost(Config):
    """A host: a process that carries members on one device."""

    device: str
    """Kind and number of the device."""
    gpu_share: float
    """Share of the GPU that the host holds; 0 on CPUs."""
    cpus: float
    """Number of CPUs, and of threads, of the host."""
    members: tuple[PlacedMember, ...]
    """The members that the host carries."""


class PlannedWave(Config):
    """Hosts that work at the same time."""

    seconds: float
    """Seconds until the last host of the wave ends."""
    hosts: tuple[PlannedHost, ...]
    """The hosts, device by device."""


class PlanDocument(Config):
    """The plan of a run."""

    schema_version: Literal[1] = 1
    """Version of this format."""
    images: int
    """Number of images that every member predicts."""
    rows_done: int = 0
    """Number of predictions that the run has already, over all members."""
    has_costs: bool
    """Whether every member's cost is known; if not, seconds have no meaning."""
    unknown: tuple[str, ...]
    """Names of the members whose cost is not known."""
    waves: tuple[PlannedWave, ...]
    """The waves, one after the other."""
    seconds: float | None
    """Expected seconds of the forward passes that are missing; null where a cost is unknown."""
    lower_bound_s: float | None
    """Seconds that no schedule can beat on these devices; null where a cost is unknown."""
    gpu_hours: float | None
    """Hours of GPUs that are held; null where a cost is unknown."""
    shards: int
    """Number of shards of images, each decoded once per wave."""
    shards_in_flight: int
    """Number of shards kept decoded at a time, at most."""
    shard_mb: float
    """Size of one decoded shard, from a sample of the images."""
    object_store_mb: float
    """Size of all shards in flight, on each machine that has hosts."""
    lines: tuple[str, ...]
    """The plan in words."""
