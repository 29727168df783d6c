"""Real raylets on one machine with GPUs that only Ray believes in: placement, lost nodes, lost messages.

The workers are `SyntheticHost`s, which compute on CPUs whatever the plan says, so that GPUs need not be
there; everything else is what runs on a cluster.
"""

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from cluster.pool.host import HostSettings
from cluster.pool.pool import Pool, open_pool
from cluster.pool.synthetic_host import SyntheticHost
from cluster.scheduling.placement import Plan
from cluster.settings import ClusterConfig, GpuConfig
from ensemble.images.open import decode_shard, open_source
from ensemble.images.settings import DigitsConfig
from ensemble.images.shard import plan_shards
from ensemble.inference.costs import CostCache, MemberCost
from ensemble.members.member import Member
from ensemble.storage.local_store import LocalStore
from ensemble.table.logit_table import LogitTable

from ...members import make_member

pytestmark = [pytest.mark.ray, pytest.mark.nightly]

IDS = open_source(DigitsConfig()).index().image_ids[:600].tolist()
SPECS = plan_shards(IDS, 50)
STORE_MB = 80
SEEDS = pytest.mark.parametrize("seed", range(5))

Table = dict[str, bytes]


def _member(number: int, rounds: int = 100) -> Member:
    return make_member(f"m{number}", 10, parameters=rounds)


MEMBERS = tuple(_member(number) for number in range(13))
FIGURES = {
    member.name: MemberCost(images_per_s=100 + n, memory_mb=1000)
    for n, member in enumerate(MEMBERS)
}


def _config(count: int, **settings: object) -> ClusterConfig:
    gpus = (GpuConfig(count=count, memory_gb=16, cpus=1),)
    return ClusterConfig.model_validate({"gpus": gpus, "figures": FIGURES} | settings)


@contextmanager
def _start(monkeypatch: pytest.MonkeyPatch, **system: object) -> Iterator[Cluster]:
    health = {
        "health_check_initial_delay_ms": 0,
        "health_check_period_ms": 1000,
        "health_check_failure_threshold": 10,
    }
    started = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 2,
            "object_store_memory": STORE_MB << 20,
            "include_dashboard": False,
            "_system_config": health | system,
        },
    )
    monkeypatch.setenv("RAY_ADDRESS", started.address)
    try:
        yield started
    finally:
        ray.shutdown()
        started.shutdown()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with _start(monkeypatch) as started:
        yield started


@pytest.fixture
def lossy_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    losses = {
        "num_failures": -1,
        "req_failure_prob": 5,
        "resp_failure_prob": 5,
        "in_flight_failure_prob": 2,
    }
    rule = json.dumps({"CoreWorkerService.grpc_client.PushTask": losses})
    with _start(monkeypatch, testing_rpc_failure=rule) as started:
        yield started


def _add_node(cluster: Cluster, num_gpus: int = 2) -> Any:
    return cluster.add_node(
        num_cpus=2 * num_gpus,
        num_gpus=num_gpus,
        object_store_memory=STORE_MB << 20,
    )


@contextmanager
def _pool(config: ClusterConfig, folder: Path) -> Iterator[Pool]:
    with open_pool(config, DigitsConfig(), CostCache(folder / "figures"), SyntheticHost) as pool:
        yield pool


def _fill(
    pool: Pool,
    root: Path,
    members: tuple[Member, ...] = MEMBERS,
    at: dict[int, Callable[[], object]] | None = None,
    on_plan: Callable[[Plan], None] = lambda plan: None,
) -> dict[str, bytes]:
    """Fill a table, doing something after some blocks; give its bytes."""
    table = LogitTable(root)
    work = [(spec, members) for spec in SPECS]
    for number, (member, block) in enumerate(pool.predict(work, on_plan)):
        table.commit(member, block)
        if at and number in at:
            at[number]()
    store = LocalStore(root)
    return {key: store.read(key) for key in store.keys("columns")}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The same table without Ray."""
    host, source = SyntheticHost(HostSettings("cpu")), open_source(DigitsConfig())
    store = LocalStore(tmp_path_factory.mktemp("alone"))
    table = LogitTable(store)
    for spec in SPECS:
        shard = decode_shard(source, spec)
        for member in MEMBERS:
            table.commit(member, host.predict(member, None, shard)[0])
    return {key: store.read(key) for key in store.keys("columns")}


def test_thirteen_members_are_where_the_plan_says(
    cluster: Cluster, expected: Table, tmp_path: Path
) -> None:
    for _ in range(3):
        _add_node(cluster)
    plans: list[Plan] = []
    with _pool(_config(6), tmp_path) as pool:
        table = _fill(pool, tmp_path / "table", on_plan=plans.append)
        where = pool.where()
        actors = [a for a in ray._private.state.actors().values() if a["State"] == "ALIVE"]
    assert table == expected
    hosts = plans[0].hosts(0)
    assert sorted((host.device, host.members) for host in hosts) == sorted(
        (place.device, place.members) for place in where
    )
    assert {name for host in hosts for name in host.members} == {m.name for m in MEMBERS}
    # As many GPUs as planned, two a node; whoever shares a planned GPU shares a real one.
    gpu_of = {(place.device, place.node_id, place.gpus) for place in where}
    assert len(gpu_of) == len({device for device, _, _ in gpu_of}) == 6
    assert len({(node, gpu) for _, node, gpu in gpu_of}) == 6
    assert {gpu for _, _, gpu in gpu_of} == {"0", "1"}
    nodes = [actor["Address"]["NodeID"] for actor in actors]
    assert sorted(nodes) == sorted(place.node_id for place in where)


@SEEDS
def test_a_node_killed_half_way_and_replaced_changes_no_byte(
    cluster: Cluster, expected: Table, tmp_path: Path, seed: int
) -> None:
    first, _ = _add_node(cluster, 1), _add_node(cluster, 1)

    def lose() -> None:
        cluster.remove_node(first, allow_graceful=False)
        _add_node(cluster, 1)

    with _pool(_config(2, host_per="gpu"), tmp_path) as pool:
        table = _fill(pool, tmp_path / "table", at={_moment(seed): lose})
        retries = pool.retries
    assert table == expected
    assert retries >= 1


@SEEDS
def test_a_node_that_is_taken_back_as_announced_costs_no_call(
    cluster: Cluster, expected: Table, tmp_path: Path, seed: int
) -> None:
    first, _ = _add_node(cluster, 1), _add_node(cluster, 1)
    seen: list[set[str]] = []

    def drain() -> None:
        _add_node(cluster, 1)
        reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        deadline_ms = int(1e3 * time.time()) + 300_000
        client = ray._raylet.GcsClient(address=cluster.address)
        client.drain_node(first.node_id, reason, "spot notice", deadline_ms)

    with _pool(_config(2, host_per="gpu"), tmp_path) as pool:
        moments = {_moment(seed): drain, 150: lambda: seen.append(_nodes(pool))}
        table = _fill(pool, tmp_path / "table", MEMBERS, moments)
        retries = pool.retries
    assert table == expected
    assert retries == 0
    assert first.node_id not in seen[0]


def _moment(seed: int) -> int:
    """After which of the 156 blocks something happens, with time left to deal with it."""
    return random.Random(seed).randrange(10, 60)


def _nodes(pool: Pool) -> set[str]:
    return {place.node_id for place in pool.where()}


@pytest.mark.parametrize("attempt", range(5))  # Ray draws anew each time
def test_lost_requests_and_replies_change_no_byte(
    lossy_cluster: Cluster, expected: Table, tmp_path: Path, attempt: int
) -> None:
    _add_node(lossy_cluster, 2)
    with _pool(_config(2, host_per="gpu"), tmp_path) as pool:
        table = _fill(pool, tmp_path / "table")
        retries = pool.retries
    assert table == expected
    assert retries > 0
