"""Kept views: many columns, and a network in memory once."""

from dataclasses import replace
from pathlib import Path

from cluster.scheduling.costs import Costs
from cluster.scheduling.packing import make_plan
from cluster.scheduling.placement import Device
from cluster.scheduling.predict_calls import predict_calls
from cluster.scheduling.simulate import simulate
from cluster.settings import ClusterConfig
from ensemble.images.shard import plan_shards
from ensemble.inference.costs import CostCache, MemberCost
from ensemble.members.member import Member, split_views
from ensemble.members.settings import Preprocessing
from ensemble.views.settings import CenterView, Crops144, DenseViews, TenCrop, Views
from jobs.pools import load_pool

from ...members import make_member

_SHARD_BYTES = 128 * 224 * 224 * 3
_SPECS = plan_shards([str(number) for number in range(12_800)], 128)
_KEPT: dict[str, Views] = {
    "ten_crop": TenCrop(keep_views=True),
    "center": CenterView(),
    "crops_144": Crops144(keep_views=True),
    "dense": DenseViews(flip=True, keep_views=True),
}


def _members() -> list[Member]:
    """The paper's pool with every view kept, as its file has them."""
    preprocessing = Preprocessing(size=224, resize=256, mean=(0.5,) * 3, std=(0.2,) * 3)
    return [
        make_member(
            config.name,
            preprocessing=preprocessing,
            views=_KEPT[(config.views or DenseViews()).kind],
        )
        for config in load_pool("imagenet13")
    ]


def test_the_papers_pool_with_every_view_kept_is_13_networks_in_one_wave(tmp_path: Path) -> None:
    members = _members()
    columns = [view for member in members for view in split_views(member)]
    assert len({column.column for column in columns}) == 389
    figures = {
        member.name: MemberCost(images_per_s=20 + 10 * n, memory_mb=3_000, batch_mb=2_000)
        for n, member in enumerate(members)
    }
    config = ClusterConfig(figures=figures)
    costs = Costs(config, CostCache(tmp_path))
    devices = [Device("L4", memory_mb=22 * 1024, cpus=6)] * 8
    calls = predict_calls([(spec, columns) for spec in _SPECS])
    plan = make_plan(costs.works(calls, {"L4"}), devices)
    # Each wave decodes the images, and this is all of them.
    (wave,) = plan.waves
    assert {share.member for share in wave} == {member.name for member in members}
    assert all(share.memory_mb == 3_000 for share in wave)
    assert len(calls) == 13 * len(_SPECS)
    assert sorted(m.column for call in calls[:13] for m in call.members) == sorted(
        column.column for column in columns
    )
    block_s = {member.name: {"L4": 128 / figures[member.name].images_per_s} for member in members}
    seconds = simulate(plan, calls, block_s, _SHARD_BYTES, config.shard_window_mb)
    assert seconds < 1.2 * plan.seconds


def test_a_call_makes_the_views_that_are_lacking_and_no_others() -> None:
    first, second = (replace(member) for member in _members()[:2])
    views, spec = split_views(first), _SPECS[0]
    calls = predict_calls([(spec, [*views[2:4], second])], first_order=7)
    assert [call.members for call in calls] == [views[2:4], (second,)]
    assert [(call.order, call.owner, call.member) for call in calls] == [
        (7, first.name, first),
        (8, second.name, second),
    ]
    assert str(calls[0]) == "predict of 'alexnet' on 128 images from '0'"
