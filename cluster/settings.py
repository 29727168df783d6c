"""Settings of the Ray side. Nothing here changes a result: the same run on other machines is the same run."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from ensemble.config import Config
from ensemble.inference.costs import MemberCost


class GpuConfig(Config):
    """GPUs of one kind that the run may use, whether their nodes are up now or not."""

    count: PositiveInt
    """Number of GPUs of this kind."""
    memory_gb: PositiveFloat
    """Memory of each GPU, in GB of 2^30 bytes."""
    type: str | None = None
    """Ray's name of the kind, as A100 or H200; workers go to nodes with this label and no others."""
    market: Literal["spot", "on-demand"] | None = None
    """Market that is preferred; after three minutes without such a node, any market is accepted."""
    cpus: PositiveFloat = 2
    """CPUs reserved beside each GPU, for resizing and copying; decoding takes others."""


class ClusterConfig(Config):
    """Where the work runs, and on how many GPUs or processes."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """What networks run on; auto takes GPUs if `gpus` lists some, or this machine has some and no cluster is named."""
    gpus: tuple[GpuConfig, ...] = ()
    """GPUs to plan for; those of the nodes that are up, where device is cuda and none are listed."""
    host_per: Literal["member", "gpu"] = "member"
    """On GPUs: one process for each member with a share of a GPU, or one for each GPU with all of its members."""
    figures: dict[str, MemberCost] = Field(default_factory=dict)
    """Known costs, by member; the others are measured once and kept."""
    channels_last: bool = False
    """Lay pixels out channel by channel last; faster on GPUs in half precision. Rounds as another device would."""
    compile: bool = False
    """Compile networks with torch.compile; worth it for long runs. Rounds as another device would."""
    hosts: PositiveInt | None = None
    """Processes that carry members on CPUs; as many as cores, at most one a member, if not set."""
    shard_images: PositiveInt = 128
    """Images that are decoded together and handed to every member."""
    shard_window_mb: PositiveInt = 256
    """Decoded shards kept in the object store at a time, in MB. Where they are few, hosts wait for the slowest member:
    64 hosts want 1024."""
    object_store_mb: PositiveInt = 1024
    """Ray's object store on an embedded Ray, in MB."""
