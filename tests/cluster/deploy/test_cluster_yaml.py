"""cluster.yaml, its GCP variant and the KubeRay manifests: Ray's own checks, and promises of ours. No cloud."""

import copy
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from cluster.devices import list_devices
from cluster.settings import ClusterConfig, GpuConfig

from ...kubernetes_schemas import FOLDER, WHY_NOT, validator_of

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LAUNCHERS = {"aws": ROOT / "cluster.yaml", "gcp": ROOT / "cluster" / "deploy" / "gcp.yaml"}
KUBERAY = ROOT / "cluster" / "deploy" / "kuberay"
TOKEN = "/home/ray/.ray/auth_token"
ROLE = "ens/role"
MARKET = "ray.io/market-type"
IMAGE = re.compile(r"rayproject/ray:(\d+\.\d+\.\d+)-py311-gpu")


@pytest.fixture(params=LAUNCHERS)
def launcher(request: pytest.FixtureRequest) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(LAUNCHERS[request.param].read_text())
    return document


def _workers(launcher: dict[str, Any]) -> dict[str, Any]:
    types = launcher["available_node_types"]
    return {name: kind for name, kind in types.items() if name != launcher["head_node_type"]}


def test_ray_accepts_it(launcher: dict[str, Any]) -> None:
    validate_config(prepare_config(copy.deepcopy(launcher)))


def test_ray_would_refuse_a_misspelt_key(launcher: dict[str, Any]) -> None:
    _workers(launcher)["gpu_spot"]["max_worker"] = 1
    with pytest.raises(jsonschema.ValidationError, match="max_worker"):
        validate_config(prepare_config(launcher))


def test_the_head_takes_no_work(launcher: dict[str, Any]) -> None:
    assert launcher["available_node_types"][launcher["head_node_type"]]["resources"] == {"CPU": 0}


def test_an_idle_cluster_is_the_head_alone(launcher: dict[str, Any]) -> None:
    for worker in _workers(launcher).values():
        assert worker["min_workers"] == 0
        assert 0 < worker["idle_timeout_s"] <= 600
    assert sum(w["max_workers"] for w in _workers(launcher).values()) <= launcher["max_workers"]


def test_spot_is_asked_for_first_and_labels_tell_the_market(launcher: dict[str, Any]) -> None:
    workers = _workers(launcher)
    spot, fallback = workers["gpu_spot"], workers["gpu_on_demand"]
    assert spot["priority"] > fallback["priority"]
    assert spot["labels"][MARKET] == "spot"
    assert fallback["labels"][MARKET] == "on-demand"
    assert spot["labels"][ROLE] == fallback["labels"][ROLE] == "gpu"
    assert workers["decode"]["labels"][ROLE] == "decode"
    assert launcher["provider"]["cache_stopped_nodes"] is False
    # Both are the same machine, so that a plan for one fits the other.
    assert {**spot["labels"], MARKET: ""} == {**fallback["labels"], MARKET: ""}


def _workers_by_selector(workers: dict[str, dict[str, str]]) -> list[set[str]]:
    """Which workers a config's GPU may be on: those that are preferred, and all."""
    gpu = GpuConfig(count=1, memory_gb=22, type="L4", market="spot")
    (device,) = list_devices(ClusterConfig(gpus=(gpu,)), True, ())
    return [
        {name for name, labels in workers.items() if selector.items() <= labels.items()}
        for selector in device.selectors
    ]


def test_a_gpu_that_a_config_asks_for_is_found_by_its_labels(launcher: dict[str, Any]) -> None:
    labels = {name: worker["labels"] for name, worker in _workers(launcher).items()}
    assert _workers_by_selector(labels) == [{"gpu_spot"}, {"gpu_spot", "gpu_on_demand"}]


def test_the_market_is_what_the_cloud_is_asked_for() -> None:
    for name, worker in _workers(yaml.safe_load(LAUNCHERS["aws"].read_text())).items():
        is_spot = worker["labels"][MARKET] == "spot"
        market = worker["node_config"].get("InstanceMarketOptions")
        assert market == ({"MarketType": "spot"} if is_spot else None), name
    for name, worker in _workers(yaml.safe_load(LAUNCHERS["gcp"].read_text())).items():
        is_spot = worker["labels"][MARKET] == "spot"
        scheduling = worker["node_config"].get("scheduling", [])
        assert ({"provisioningModel": "SPOT"} in scheduling) == is_spot, name


def test_the_image_has_a_ray_and_a_python_that_this_project_runs_on(
    launcher: dict[str, Any],
) -> None:
    image = IMAGE.fullmatch(launcher["docker"]["image"])
    assert image
    low, high = re.search(  # type: ignore[union-attr]
        r"ray\[default\]>=([\d.]+),<([\d.]+)", " ".join(PROJECT["dependencies"])
    ).groups()
    version = tuple(int(part) for part in image[1].split("."))
    assert tuple(map(int, low.split("."))) <= version < tuple(map(int, high.split(".")))
    assert image[0] in (ROOT / "cluster" / "deploy" / "Dockerfile").read_text()


def test_a_token_is_needed_everywhere_and_the_dashboard_is_on_loopback(
    launcher: dict[str, Any],
) -> None:
    assert launcher["file_mounts"] == {TOKEN: "~/.ray/auth_token"}
    assert f"chmod 600 {TOKEN}" in launcher["setup_commands"]
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        start = next(command for command in launcher[key] if "ray start" in command)
        assert f"RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={TOKEN} ray start" in start
    assert "--dashboard-host=127.0.0.1" in launcher["head_start_ray_commands"][-1]


def test_no_key_is_shipped_and_containers_reach_the_role() -> None:
    for path in [*LAUNCHERS.values(), *KUBERAY.glob("*.yaml")]:
        assert not re.search(r"AKIA|SECRET_ACCESS_KEY|private_key|password", path.read_text())
    aws = yaml.safe_load(LAUNCHERS["aws"].read_text())
    for node in aws["available_node_types"].values():
        config = node["node_config"]
        assert config["IamInstanceProfile"]["Arn"].startswith("arn:aws:iam::")
        assert config["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}
    gcp = yaml.safe_load(LAUNCHERS["gcp"].read_text())
    for node in gcp["available_node_types"].values():
        assert node["node_config"]["serviceAccounts"]


def test_runs_are_on_a_folder_that_all_machines_share(launcher: dict[str, Any]) -> None:
    assert "-v /shared:/home/ray/runs" in launcher["docker"]["run_options"]
    assert any("mount -t nfs" in command for command in launcher["initialization_commands"])


def test_every_dependency_is_set_up(launcher: dict[str, Any]) -> None:
    setup = " ".join(launcher["setup_commands"])
    missing = [d for d in PROJECT["dependencies"] if f'"{d}"' not in setup and "ray[" not in d]
    assert missing == []


def test_what_a_user_must_fill_in_is_marked() -> None:
    for path in LAUNCHERS.values():
        header = path.read_text().split("cluster_name")[0]
        assert "FILL" in header
        assert "FILL" in path.read_text().removeprefix(header)


def _manifest(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((KUBERAY / f"{name}.yaml").read_text())
    return document


def _clusters() -> dict[str, dict[str, Any]]:
    return {
        "RayCluster": _manifest("raycluster")["spec"],
        "RayJob": _manifest("rayjob")["spec"]["rayClusterSpec"],
    }


@pytest.mark.parametrize("kind", ["RayCluster", "RayJob"])
def test_kuberay_clusters_keep_the_same_promises(kind: str) -> None:
    spec = _clusters()[kind]
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["autoscalerOptions"]["version"] == "v2"
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert (
        f"rayproject/ray:{spec['rayVersion']}-"
        in (ROOT / "cluster" / "deploy" / "Dockerfile").read_text()
    )
    groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    labels = {name: group["labels"] for name, group in groups.items()}
    assert _workers_by_selector(labels) == [{"gpu-spot"}, {"gpu-spot", "gpu-on-demand"}]
    assert set(groups) == {"decode", "gpu-spot", "gpu-on-demand"}
    assert groups["gpu-spot"]["priority"] > groups["gpu-on-demand"]["priority"]
    images = set()
    for group in groups.values():
        assert group["minReplicas"] == group["replicas"] == 0
        pod = group["template"]["spec"]
        images |= {container["image"] for container in pod["containers"]}
        assert pod["terminationGracePeriodSeconds"] > 45
        resources = pod["containers"][0]["resources"]
        assert resources["requests"] == resources["limits"]
        assert ("nvidia.com/gpu" in resources["limits"]) == (group["labels"][ROLE] == "gpu")
        mounted = {
            mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]
        }
        shared = {v["name"]: v for v in pod["volumes"]}
        assert shared[mounted["/dev/shm"]]["emptyDir"]["medium"] == "Memory"
        claim = shared[mounted["/home/ray/runs"]]["persistentVolumeClaim"]["claimName"]
        assert claim == _manifest("runs")["metadata"]["name"]
    head = spec["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert images == {head["image"]}
    assert "/home/ray/runs" in {mount["mountPath"] for mount in head["volumeMounts"]}


def test_both_manifests_make_the_same_workers() -> None:
    clusters = _clusters()
    assert clusters["RayCluster"]["workerGroupSpecs"] == clusters["RayJob"]["workerGroupSpecs"]


def test_a_job_that_is_made_again_goes_on_in_the_same_folder() -> None:
    spec = _manifest("rayjob")["spec"]
    assert spec["backoffLimit"] >= 1
    assert re.search(r" name=\S+ runs=/home/ray/runs$", spec["entrypoint"])
    assert spec["activeDeadlineSeconds"] > spec["preRunningDeadlineSeconds"] > 0
    assert spec["shutdownAfterJobFinishes"] is True
    env = yaml.safe_load(spec["runtimeEnvYAML"])["env_vars"]
    assert int(env["RAY_JOB_STOP_WAIT_TIME_S"]) >= 30


@pytest.mark.skipif(FOLDER is None, reason=WHY_NOT)
@pytest.mark.parametrize(
    ("name", "definition"), [("raycluster", "rayclusters"), ("rayjob", "rayjobs")]
)
def test_kuberay_accepts_it(name: str, definition: str) -> None:
    validator = validator_of(f"ray.io_{definition}")
    assert [error.message for error in validator.iter_errors(_manifest(name))] == []
    misspelt = _manifest(name) | {"spec": {**_manifest(name)["spec"], "misspelt": 1}}
    assert not validator.is_valid(misspelt)
