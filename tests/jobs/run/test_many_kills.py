"""Each process of an embedded run killed 25 times: the run ends in time or goes on, to the same bytes."""

import random

import pytest

from cluster.watchdog import STOPPED_LIMIT_S

from ..killing import LOSS_LIMIT_S, OF_RAY, Killer, kill_by_plan

pytestmark = [pytest.mark.ray, pytest.mark.nightly]

VICTIMS = (*OF_RAY, "host", "driver")
COUNT = 25
# One host and no training but the first: what a run costs is the start of Ray.
TINIEST = """
images:
  source: {kind: digits}
  split: {train: 30, search: 48, test: 24}
views: {kind: center}
recipes:
  default: {epochs: 1}
members:
  - {name: resnet-0, source: {kind: recipe, architecture: resnet14_small, seed: 0}}
  - {name: resnet-1, source: {kind: recipe, architecture: resnet14_small, seed: 1}}
search: {kind: best}
report: {resamples: 100}
cluster: {device: cpu, hosts: 1, shard_images: 8, object_store_mb: 128}
"""


@pytest.fixture(scope="module")
def killer(tmp_path_factory: pytest.TempPathFactory) -> Killer:
    folder = tmp_path_factory.mktemp("kills")
    (folder / "tiniest.yaml").write_text(TINIEST)
    killer = Killer(folder / "tiniest.yaml", folder, random.Random(5))
    killer.note()
    killer.finish()
    return killer


def test_twenty_five_kills_of_each_process_end_or_go_on_and_change_no_byte(killer: Killer) -> None:
    while left := [v for v in VICTIMS if killer.kills[v] < COUNT]:
        for victim in left:
            kill_by_plan(killer, [victim] * 5)
        print(killer.kills, killer.slowest_s, flush=True)


def test_a_raylet_that_stays_stopped_ends_the_run_with_one_message(killer: Killer) -> None:
    killer.wipe_table()
    code, errors, seconds = killer.stop_raylet()
    assert code == 1
    assert "lost its raylet process: something stopped it" in errors
    assert "Traceback" not in errors
    assert seconds < STOPPED_LIMIT_S + LOSS_LIMIT_S
    killer.note()
    killer.finish()


def test_a_raylet_that_is_stopped_for_a_while_does_no_harm(killer: Killer) -> None:
    killer.wipe_table()
    code, errors, _ = killer.stop_raylet(continue_after_s=5)
    assert code == 0, errors
