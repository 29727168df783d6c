from pathlib import Path

from ensemble.inference.costs import CostCache, MemberCost, cost_key
from ensemble.views.settings import CenterView, ShiftsAndScales

COST = MemberCost(images_per_s=100, memory_mb=12.5, batch_images=32)
KEY = cost_key("resnet", 10, 32, CenterView(), {"device": "cpu"})


def test_a_cost_that_was_kept_is_found_again(tmp_path: Path) -> None:
    CostCache(tmp_path / "new").keep(KEY, COST)
    assert CostCache(tmp_path / "new").find(KEY) == COST


def test_what_was_not_measured_or_cannot_be_read_is_not_known(tmp_path: Path) -> None:
    cache = CostCache(tmp_path)
    assert cache.find(KEY) is None
    cache.keep(KEY, COST)
    (tmp_path / f"{KEY}.json").write_text("{}")
    assert cache.find(KEY) is None


def test_a_cost_belongs_to_the_network_its_input_its_views_and_the_device() -> None:
    others = [
        cost_key("resnext", 10, 32, CenterView(), {"device": "cpu"}),
        cost_key("resnet", 11, 32, CenterView(), {"device": "cpu"}),
        cost_key("resnet", 10, 64, CenterView(), {"device": "cpu"}),
        cost_key("resnet", 10, 32, ShiftsAndScales(), {"device": "cpu"}),
        cost_key("resnet", 10, 32, CenterView(), {"device": "A100"}),
    ]
    assert len({KEY, *others}) == 6
    assert cost_key("resnet", 10, 32, CenterView(), {"device": "cpu"}) == KEY
