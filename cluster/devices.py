"""The devices of a run. The config decides them; the nodes that are up do so only where it lists none."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.address import is_named, ray_address
from cluster.scheduling.placement import Device
from cluster.settings import ClusterConfig, GpuConfig
from cluster.submission.head import list_nodes
from ensemble.errors import ClusterError, ConfigError

_GPU_TYPE, _MARKET = "ray.io/accelerator-type", "ray.io/market-type"
# One CPU stays free for decoding and searching.
_FREE_CPUS = 1


def takes_gpus(config: ClusterConfig, is_cluster: bool, num_gpus: int) -> bool:
    """Tell whether networks run on GPUs.

    Args:
        config: Settings of the Ray side.
        is_cluster: Whether a cluster is named.
        num_gpus: GPUs that are up. They count without a named cluster only, because a cluster may be
            scaled to zero.

    Raises:
        ConfigError: `device` is cpu, and `gpus` lists GPUs.
    """
    if config.device == "cpu" and config.gpus:
        raise ConfigError(
            "cluster.device is cpu, and cluster.gpus lists GPUs. Set cluster.device=auto to use "
            "them, or remove cluster.gpus."
        )
    if config.device == "auto":
        return bool(config.gpus) or (not is_cluster and num_gpus > 0)
    return config.device == "cuda"


def list_devices(
    config: ClusterConfig, is_cluster: bool, nodes: Sequence[Mapping[str, Any]]
) -> tuple[Device, ...]:
    """List the devices of a run.

    Args:
        config: Settings of the Ray side.
        is_cluster: Whether a cluster is named.
        nodes: Nodes of the cluster, as `ray.nodes()` lists them.

    Raises:
        ConfigError: `device` is cpu, and `gpus` lists GPUs.
        ClusterError: `device` is cuda, and neither the config nor the cluster has a GPU.
    """
    nodes = [node for node in nodes if node["Alive"]]
    gpus = [device for node in nodes for device in _gpus_of(node)]
    if not takes_gpus(config, is_cluster, len(gpus)):
        num_cpus = sum(int(node["Resources"].get("CPU", 0)) for node in nodes)
        return (Device(),) * (config.hosts or max(1, num_cpus - _FREE_CPUS))
    if config.gpus:
        return tuple(device for gpu in config.gpus for device in (_device_of(gpu),) * gpu.count)
    if not gpus:
        raise ClusterError(
            f"cluster.device is cuda, cluster.gpus is empty, and none of the {len(nodes)} nodes "
            "that are up has a GPU. Expected at least one; list them in cluster.gpus if they start "
            "on demand, set cluster.device=cpu, or point RAY_ADDRESS at a cluster that has GPUs."
        )
    return tuple(gpus)


def find_devices(config: ClusterConfig, address: str | None = None) -> tuple[Device, ...]:
    """Find the devices of a run that has not begun. A cluster is asked only if one is named.

    Args:
        config: Settings of the Ray side.
        address: Address of the cluster, or the URL of its dashboard; RAY_ADDRESS if none.

    Raises:
        ConfigError: `device` is cpu, and `gpus` lists GPUs.
        ClusterError: The cluster does not answer, or `device` is cuda and there is no GPU.
    """
    address = address or ray_address()
    if not is_named(address) or config.gpus:
        return list_devices(config, is_named(address), [_this_machine(config)])
    if "://" in address:
        return list_devices(config, True, list_nodes(address))
    # Imported here, because most plans need no Ray.
    import ray

    from cluster.session import session

    with session(config, address):
        return list_devices(config, True, ray.nodes())


def _this_machine(config: ClusterConfig) -> dict[str, Any]:
    """Describe this machine as an embedded Ray would describe its one node."""
    from ray._private.accelerators import NvidiaGPUAcceleratorManager

    num_gpus = NvidiaGPUAcceleratorManager.get_current_node_num_accelerators()
    num_cpus = (config.hosts or len(os.sched_getaffinity(0))) + _FREE_CPUS
    return {"Alive": True, "Resources": {"CPU": num_cpus, "GPU": num_gpus}, "Labels": {}}


def _device_of(gpu: GpuConfig) -> Device:
    kind = {_GPU_TYPE: gpu.type} if gpu.type else {}
    preferred = (kind | {_MARKET: gpu.market},) if gpu.market else ()
    return Device(gpu.type or "gpu", gpu.memory_gb * 1024, gpu.cpus, (*preferred, kind))


def _gpus_of(node: Mapping[str, Any]) -> list[Device]:
    resources = node["Resources"]
    num_gpus = int(resources.get("GPU", 0))
    kind = node.get("Labels", {}).get(_GPU_TYPE)
    # Half of the CPUs stay free for decoding.
    cpus = resources.get("CPU", 1) / 2 / num_gpus if num_gpus else 1.0
    selectors: tuple[Mapping[str, str], ...] = ({_GPU_TYPE: kind},) if kind else ({},)
    return [Device(kind or "gpu", cpus=cpus, selectors=selectors)] * num_gpus
