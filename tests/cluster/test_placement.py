import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.placement import plan_on_cpus, plan_on_gpus
from ensemble.errors import ClusterError

COSTS = st.dictionaries(
    st.text("abcdefgh", min_size=1), st.floats(0.1, 100), min_size=1, max_size=13
)


@given(COSTS, st.integers(1, 8))
def test_every_member_is_on_exactly_one_host(costs: dict[str, float], num_hosts: int) -> None:
    plans = plan_on_cpus(costs, num_hosts)
    assert sorted(name for plan in plans for name in plan.members) == sorted(costs)
    assert len(plans) == min(num_hosts, len(costs))


@given(COSTS, st.integers(1, 8))
def test_no_host_ends_later_than_longest_processing_time_first_allows(
    costs: dict[str, float], num_hosts: int
) -> None:
    plans = plan_on_cpus(costs, num_hosts)
    longest = max(sum(costs[name] for name in plan.members) for plan in plans)
    bound = max(max(costs.values()), sum(costs.values()) / len(plans))
    # Graham 1969: at most 4/3 - 1/(3m) of the best schedule, which is at least the bound.
    assert longest <= bound * 4 / 3 + max(costs.values()) / 3 + 1e-9


def test_a_plan_does_not_depend_on_the_order_of_equal_costs() -> None:
    assert plan_on_cpus({"a": 1.0, "b": 1.0}, 2) == plan_on_cpus({"b": 1.0, "a": 1.0}, 2)


@given(st.integers(1, 40), st.integers(1, 8), st.integers(1, 64))
def test_shares_never_sum_to_more_than_there_is(
    num_members: int, num_gpus: int, num_cpus: int
) -> None:
    plans = plan_on_gpus(tuple(f"m{i}" for i in range(num_members)), num_gpus, num_cpus)
    per_gpu = -(-num_members // num_gpus)
    assert all(0 < plan.gpu_share * per_gpu <= 1 for plan in plans)
    assert sum(plan.cpu_share for plan in plans) <= num_cpus + 1e-9


def test_cuda_without_a_gpu_is_refused_with_what_to_do() -> None:
    with pytest.raises(ClusterError, match=r"has no GPU.*set cluster\.device=cpu"):
        plan_on_gpus(("a",), 0, 2)
