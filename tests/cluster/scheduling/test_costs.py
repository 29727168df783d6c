from dataclasses import replace
from pathlib import Path

from cluster.scheduling.costs import Costs
from cluster.settings import ClusterConfig
from ensemble.inference.costs import CostCache, MemberCost

from ...members import make_member

MEMBER = make_member("wide")
FIGURE = MemberCost(images_per_s=100, memory_mb=5000)


def test_a_batch_that_did_not_fit_is_news_once_and_known_to_later_runs(tmp_path: Path) -> None:
    costs = Costs(ClusterConfig(), CostCache(tmp_path))
    costs.keep(MEMBER, "L4", FIGURE)
    assert [costs.halved(MEMBER, "L4", 64) for _ in range(3)] == [True, False, False]
    later = Costs(ClusterConfig(), CostCache(tmp_path))
    assert later.batch_images(MEMBER, {"L4"}) == 64


def test_a_batch_that_did_not_fit_is_news_once_where_figures_were_given(tmp_path: Path) -> None:
    costs = Costs(ClusterConfig(figures={"wide": FIGURE}), CostCache(tmp_path))
    assert [costs.halved(MEMBER, "L4", 64) for _ in range(3)] == [True, False, False]
    assert costs.batch_images(MEMBER, {"L4", "A100"}) == 64
    # What was given is not taken for measured once it is given no more.
    assert Costs(ClusterConfig(), CostCache(tmp_path)).of(MEMBER, "L4") is None


def test_a_batch_that_is_smaller_than_the_one_that_was_given_is_news(tmp_path: Path) -> None:
    given = FIGURE.model_copy(update={"batch_images": 128})
    costs = Costs(ClusterConfig(figures={"wide": given}), CostCache(tmp_path))
    assert not costs.halved(MEMBER, "L4", 128)
    assert costs.halved(MEMBER, "L4", 64)


def test_two_programs_of_one_format_have_costs_of_their_own(tmp_path: Path) -> None:
    small, large = (
        replace(MEMBER, name=name, architecture="onnx", parameters=parameters)
        for name, parameters in (("small", 1_000), ("large", 9_000))
    )
    costs = Costs(ClusterConfig(), CostCache(tmp_path))
    costs.keep(small, "cpu", FIGURE)
    assert costs.of(large, "cpu") is None
    costs.keep(large, "cpu", FIGURE.model_copy(update={"images_per_s": 5}))
    assert costs.of(small, "cpu") == FIGURE
