from pathlib import Path

import pytest

from ensemble.config import check
from ensemble.errors import ConfigError
from ensemble.inference.costs import CostCache, MemberCost, cost_key
from ensemble.views.settings import CenterView, ShiftsAndScales

COST = MemberCost(images_per_s=100, memory_mb=12.5, batch_mb=4.5, batch_images=32)
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


def test_a_cost_that_was_kept_without_the_part_of_the_batch_counts_all_as_weights(
    tmp_path: Path,
) -> None:
    (tmp_path / f"{KEY}.json").write_text('{"images_per_s": 100, "memory_mb": 12.5}')
    assert CostCache(tmp_path).find(KEY) == MemberCost(images_per_s=100, memory_mb=12.5)


def test_a_batch_larger_than_the_memory_that_it_is_a_part_of_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"batch_mb=9 is more than memory_mb=8.*weights and the"):
        check(MemberCost, {"images_per_s": 1, "memory_mb": 8, "batch_mb": 9}, "figures")


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
