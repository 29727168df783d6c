import json
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from ensemble.errors import ClusterError
from ensemble.images.open import open_source
from ensemble.images.split import split
from ensemble.inference.costs import MemberCost
from ensemble.members.member import Member
from ensemble.storage.local_store import LocalStore
from ensemble.table.block import LogitBlock
from ensemble.table.logit_table import LogitTable
from jobs.plan.estimate import plan, show
from jobs.settings import RunConfig, load_run_config
from jobs.stored_runs.columns import write_columns
from jobs.stored_runs.tables import table_store

from ...members import make_member
from ..conftest import Command

GPUS = "cluster.gpus=[{count: 2, memory_gb: 16, type: T4, market: spot, cpus: 4}]"
FIGURES = (
    "cluster.figures={resnet-0: {images_per_s: 100, memory_mb: 3000},"
    " resnet-1: {images_per_s: 50, memory_mb: 3000}, mobilenet: {images_per_s: 100, memory_mb: 500}}"
)


def _config(tiny_config: Path, tmp_path: Path, *words: str) -> RunConfig:
    return load_run_config(tiny_config, [f"runs={tmp_path}", *words])


def test_given_figures_make_a_plan_with_seconds_and_gpu_hours(
    tiny_config: Path, tmp_path: Path
) -> None:
    document = plan(_config(tiny_config, tmp_path, "cluster.device=auto", GPUS, FIGURES))
    assert document.has_costs
    # 140 images: 1.4, 2.8 and 1.4 s of one GPU, on two.
    assert document.lower_bound_s == pytest.approx(2.8)
    assert document.seconds == pytest.approx(2.8, rel=0.02)
    assert document.gpu_hours == pytest.approx(2 * 2.8 / 3600, rel=0.02)
    (wave,) = document.waves
    assert {host.device for host in wave.hosts} == {"T4 0", "T4 1"}
    assert document.shards == 3
    assert any("in flight" in line for line in document.lines)


def test_unknown_costs_are_named_and_no_seconds_are_made_up(
    tiny_config: Path, tmp_path: Path
) -> None:
    document = plan(_config(tiny_config, tmp_path))
    assert f"table: 3 columns x 140 images x 10 classes in float32, 0.0 MB at {tmp_path}" in (
        document.lines
    )
    assert "the workers write the table; no row of it passes through the driver" in document.lines
    assert document.seconds is None
    assert document.unknown == ("resnet-0", "resnet-1", "mobilenet")
    assert sum(len(host.members) for host in document.waves[0].hosts) >= 3


def test_what_a_run_measured_is_known_to_the_next_plan(tiny_config: Path, tmp_path: Path) -> None:
    from cluster.scheduling.costs import Costs
    from jobs.plan.estimate import cost_cache

    config = _config(tiny_config, tmp_path)
    costs = Costs(config.cluster, cost_cache(config))
    key = costs.key("resnet14_small", None, 10, 16, config.views, "float32", "cpu")
    cost_cache(config).keep(key, MemberCost(images_per_s=70))
    assert plan(config).unknown == ("mobilenet",)


def test_the_cost_of_a_checkpoint_whose_network_is_stated_is_known_to_the_next_plan(
    tiny_config: Path, tmp_path: Path
) -> None:
    from cluster.scheduling.costs import Costs
    from jobs.plan.estimate import cost_cache

    source = "source: {kind: checkpoint, path: /no/such.pth, architecture: torchvision/resnet18}"
    members = f"members=[{{name: a, {source}, preprocessing: {{size: 64}}}}]"
    config = _config(tiny_config, tmp_path, members, "subclassifiers=null")
    assert plan(config).unknown == ("a",)
    costs = Costs(config.cluster, cost_cache(config))
    key = costs.key("torchvision/resnet18", None, 10, 64, config.views, "float32", "cpu")
    cost_cache(config).keep(key, MemberCost(images_per_s=70))
    assert plan(config).unknown == ()


def test_a_member_that_fits_on_no_gpu_is_refused(tiny_config: Path, tmp_path: Path) -> None:
    huge = FIGURES.replace("memory_mb: 500", "memory_mb: 50000")
    with pytest.raises(ClusterError, match=r"'mobilenet' needs 50,000 MB"):
        plan(_config(tiny_config, tmp_path, "cluster.device=auto", GPUS, huge))


def test_a_plan_can_be_shown(tiny_config: Path, tmp_path: Path) -> None:
    console = Console(record=True, width=120, file=StringIO())
    show(plan(_config(tiny_config, tmp_path, "cluster.device=auto", GPUS, FIGURES)), console)
    text = console.export_text()
    assert "T4 1" in text
    assert "GPU-hours" in text


def test_the_command_prints_json_for_programs(
    command_here: Command, tiny_config: Path, tmp_path: Path
) -> None:
    done = command_here("plan", tiny_config, f"runs={tmp_path}", "--json")
    assert json.loads(done.stdout)["images"] == 140


def _block(member: Member, image_ids: list[str]) -> LogitBlock:
    return LogitBlock(
        column=member.column,
        image_ids=np.array(image_ids, np.str_),
        log_probabilities=np.full((len(image_ids), 10), -np.log(10), np.float32),
        bad=(),
        seconds=0.5,
        forward_passes=len(image_ids),
    )


def test_what_the_run_has_predicted_is_planned_no_more(tiny_config: Path, tmp_path: Path) -> None:
    config = _config(tiny_config, tmp_path)
    source = open_source(config.image_source)
    splits = split(source.index(), config.images.split, config.seed)
    folder = tmp_path / "tiny"
    members = [make_member(member.name, 10) for member in config.members]
    table = LogitTable(table_store(config, folder))
    write_columns(LocalStore(folder), {member.name: member.column for member in members})
    for member, share in zip(members, (1, 0.5, 0), strict=True):
        ids = splits.predicted_ids[: int(share * len(splits.predicted_ids))]
        if ids:
            table.commit(member, _block(member, ids))
    document = plan(config, folder=folder)
    assert document.rows_done == 140 + 70
    assert document.unknown == ("mobilenet",)
    (wave,) = document.waves
    assert {m.name for host in wave.hosts for m in host.members} == {"resnet-1", "mobilenet"}
    assert any("all predictions of 1 of 3 members already, 210 of 420" in x for x in document.lines)
