from typing import Any

import pytest

from cluster.devices import find_devices, list_devices
from cluster.settings import ClusterConfig, GpuConfig
from ensemble.errors import ClusterError, ConfigError


def _node(cpus: float = 8, gpus: int = 0, kind: str | None = None, is_alive: bool = True) -> Any:
    labels = {"ray.io/accelerator-type": kind} if kind else {}
    resources = {"CPU": cpus} | ({"GPU": gpus} if gpus else {})
    return {"Alive": is_alive, "Resources": resources, "Labels": labels}


GPUS = (GpuConfig(count=2, memory_gb=80, type="A100", market="spot", cpus=6),)


def test_a_cluster_scaled_to_zero_is_planned_for_by_the_config() -> None:
    devices = list_devices(ClusterConfig(gpus=GPUS), True, [_node(cpus=0)])
    assert [(d.kind, d.memory_mb, d.cpus) for d in devices] == [("A100", 81_920, 6)] * 2


def test_the_preferred_market_comes_first_and_any_market_after_it() -> None:
    device = list_devices(ClusterConfig(gpus=GPUS), True, [])[0]
    kind = {"ray.io/accelerator-type": "A100"}
    assert device.selectors == (kind | {"ray.io/market-type": "spot"}, kind)


@pytest.mark.parametrize("nodes", [[_node()], [_node(gpus=8)]], ids=["no GPU is up", "8 are up"])
def test_auto_on_a_cluster_asks_the_config_and_not_the_cluster(nodes: list[Any]) -> None:
    assert {d.kind for d in list_devices(ClusterConfig(), True, nodes)} == {"cpu"}


def test_auto_on_this_machine_takes_its_gpus() -> None:
    assert [d.kind for d in list_devices(ClusterConfig(), False, [_node(gpus=2)])] == ["gpu"] * 2


def test_cuda_without_a_list_takes_the_gpus_that_are_up_and_leaves_cpus_to_decoding() -> None:
    nodes = [_node(gpus=2, kind="L4"), _node(gpus=8, is_alive=False)]
    devices = list_devices(ClusterConfig(device="cuda"), True, nodes)
    assert [(d.kind, d.cpus) for d in devices] == [("L4", 2.0)] * 2


def test_cuda_without_any_gpu_is_refused_with_what_to_do() -> None:
    with pytest.raises(ClusterError, match=r"none of the 1 nodes.*cluster\.gpus.*device=cpu"):
        list_devices(ClusterConfig(device="cuda"), True, [_node()])


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"device is cpu, and cluster\.gpus lists GPUs"):
        list_devices(ClusterConfig(device="cpu", gpus=GPUS), True, [])


def test_one_cpu_stays_free_for_decoding_and_searching() -> None:
    assert len(list_devices(ClusterConfig(device="cpu"), False, [_node(cpus=4)])) == 3


def test_hosts_are_as_many_as_the_config_says() -> None:
    assert len(find_devices(ClusterConfig(device="cpu", hosts=5))) == 5
