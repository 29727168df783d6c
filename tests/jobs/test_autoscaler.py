"""A run on a cluster that has no worker yet: Ray's own autoscaler, whose cloud is this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .heads import started

pytestmark = [pytest.mark.ray, pytest.mark.nightly]


def _worker(market: str, priority: int) -> dict[str, Any]:
    return {
        "resources": {"CPU": 2, "GPU": 1, "object_store_memory": 80 << 20},
        "labels": {"ray.io/market-type": market},
        "node_config": {},
        "max_workers": 1,
        "priority": priority,
    }


# The other market comes first where no label decides.
WORKERS = {"gpu_spot": _worker("spot", 0), "gpu_on_demand": _worker("on-demand", 10)}


def test_nodes_come_as_the_config_lists_them_and_go_when_the_run_ends(tmp_path: Path) -> None:
    gpus = {"count": 2, "memory_gb": 16, "cpus": 1, "market": "spot"}
    config = json.dumps({"gpus": [gpus], "host_per": "gpu"})
    with started(tmp_path, num_cpus=1, worker_types=WORKERS) as head:
        done = subprocess.run(
            [sys.executable, Path(__file__).with_name("scaling_driver.py"), config, tmp_path],
            capture_output=True,
            text=True,
            env=os.environ
            | {
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "RAY_ADDRESS": head.ray_address,
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN": head.token,
                "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            },
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["blocks"] == 8
    # One of each: there is no second spot machine, and the fallback takes any market.
    assert seen["markets"] == ["on-demand", "spot"]
    # Ray keeps one request of programs for a whole cluster: a run that made one would take back another's.
    assert seen["asked"] == []
    assert seen["nodes_at_the_end"] == {}
