"""A driver on a cluster that grows: prints which nodes came and went, and what programs asked the autoscaler for."""

import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import ray
from ray.autoscaler.v2.sdk import get_cluster_status

from cluster.pool.pool import open_pool
from cluster.pool.synthetic_host import SyntheticHost
from cluster.settings import ClusterConfig
from ensemble.images.open import open_source
from ensemble.images.settings import DigitsConfig
from ensemble.images.shard import plan_shards
from ensemble.inference.costs import CostCache
from jobs.benchmark.synthetic_members import synthetic_member

ADDRESS = os.environ["RAY_ADDRESS"]
LIMIT_S = 90


def drive(config: ClusterConfig, folder: Path) -> dict[str, Any]:
    """Predict, and look at the autoscaler meanwhile, at the end, and once nodes had time to go."""
    ids = open_source(DigitsConfig()).index().image_ids[:200].tolist()
    members = [synthetic_member(number, 50) for number in range(2)]
    work = [(spec, members) for spec in plan_shards(ids, 50)]
    seen: dict[str, Any] = {}
    with open_pool(config, DigitsConfig(), CostCache(folder), SyntheticHost) as pool:
        seen["blocks"] = sum(1 for _ in pool.predict(work))
        deadline = time.monotonic() + LIMIT_S
        while len(pool.where()) < 2 and time.monotonic() < deadline:
            sum(1 for _ in pool.predict(work))  # once more, until the second node has come
        seen["nodes"], seen["asked"] = _nodes(), _asked_for()
        markets = {node["NodeID"]: node["Labels"].get("ray.io/market-type") for node in ray.nodes()}
        seen["markets"] = sorted(markets[place.node_id] for place in pool.where())
    ray.init(ADDRESS, log_to_driver=False, logging_level="ERROR")
    deadline = time.monotonic() + LIMIT_S
    while _nodes() and time.monotonic() < deadline:
        time.sleep(0.5)
    seen["nodes_at_the_end"] = _nodes()
    return seen


def _asked_for() -> list[tuple[int, dict[str, float]]]:
    """What the autoscaler holds as asked for by programs: how often, and what."""
    demands = get_cluster_status(ADDRESS).resource_demands.cluster_constraint_demand
    return [(each.count, each.bundle) for demand in demands for each in demand.bundles_by_count]


def _nodes() -> dict[str, int]:
    """Workers that are up, by type."""
    alive = [node["Labels"] for node in ray.nodes() if node["Alive"]]
    kinds = [labels.get("ray.io/market-type") for labels in alive]
    return dict(Counter(kind for kind in kinds if kind))


if __name__ == "__main__":
    found = drive(ClusterConfig.model_validate_json(sys.argv[1]), Path(sys.argv[2]))
    print(json.dumps(found))
