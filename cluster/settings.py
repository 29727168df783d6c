"""Settings of the Ray side. Nothing here changes a result: the same run on other machines is the same run."""

from typing import Literal

from pydantic import PositiveInt

from ensemble.config import Config


class ClusterConfig(Config):
    """Where and how wide the work runs."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """What networks run on; auto takes GPUs where the cluster has some when the run starts."""
    hosts: PositiveInt | None = None
    """Processes that carry members on CPUs; as many as cores, at most one a member, if not set."""
    shard_images: PositiveInt = 128
    """Images that are decoded together and handed to every member."""
    shard_window_mb: PositiveInt = 256
    """Decoded shards kept in the object store at a time, in MB."""
    object_store_mb: PositiveInt = 1024
    """Ray's object store on an embedded Ray, in MB."""
