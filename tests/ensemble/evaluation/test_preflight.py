import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ensemble.evaluation import metrics
from ensemble.evaluation.preflight import judge, probe
from ensemble.images.shard import ImageShard
from ensemble.members.member import Member
from ensemble.members.settings import Reference

MakeMember = Callable[..., Member]


def tail(total: int, images: int, first: float, fifth: float) -> float:
    """Chance that top-1 and top-5 errors sum to so many or more, term by term."""
    chance = 0.0
    for far in range(images + 1):
        for near in range(images - far + 1):
            if 2 * far + near >= total:
                ways = math.comb(images, far) * math.comb(images - far, near)
                chance += (
                    ways
                    * fifth**far
                    * (first - fifth) ** near
                    * (1 - first) ** (images - far - near)
                )
    return chance


@settings(deadline=None)  # the first call imports SciPy
@given(
    st.lists(st.sampled_from([0, 0, 0, 1, 4, 5, 9]), min_size=1, max_size=30),
    st.lists(st.integers(0, 100), min_size=2, max_size=2).map(sorted),
)
def test_p_value_is_the_exact_tail_of_the_sum(ranks: list[int], errors: list[int]) -> None:
    top5, top1 = errors
    wrong = sum(rank >= 1 for rank in ranks)
    total = wrong + sum(rank >= 5 for rank in ranks)
    verdict = judge("a", np.array(ranks), Reference(top1_error=top1, top5_error=top5))
    expected = tail(total, len(ranks), top1 / 100, top5 / 100)
    assert verdict.p_value == pytest.approx(expected, abs=1e-9)
    # Without figures of top 5 the sum is that of top 1 alone.
    alone = judge("a", np.array(ranks), Reference(top1_error=top1))
    assert alone.p_value == pytest.approx(tail(wrong, len(ranks), top1 / 100, 0), abs=1e-9)


def test_error_among_five_above_that_of_the_first_is_refused() -> None:
    with pytest.raises(
        ValidationError, match=r"top5_error 92 is above top1_error 75; .*accuracies"
    ):
        Reference(top1_error=75, top5_error=92)


def test_better_than_the_reference_is_no_fault() -> None:
    assert judge("a", np.zeros(200, np.int64), Reference(top1_error=50)).is_passed()


def test_twice_the_errors_of_the_reference_fail() -> None:
    ranks = np.repeat([0, 1], [160, 40])
    assert not judge("a", ranks, Reference(top1_error=10)).is_passed()
    assert judge("a", ranks, Reference(top1_error=20)).is_passed()


def test_without_a_reference_nothing_can_fail() -> None:
    verdict = judge("a", np.full(200, 9), None)
    assert (verdict.top1_errors, verdict.top5_errors, verdict.p_value) == (200, 200, None)
    assert verdict.is_passed()


def test_a_member_without_numbers_is_not_fit_and_top_5_needs_more_than_five_classes() -> None:
    verdict = judge("a", np.array([0, 1, 3, 3]), None, 3)
    assert (verdict.num_broken, verdict.has_top5, verdict.is_passed()) == (2, False, False)
    verdict = judge("a", np.array([0, 1, 2, 6]), None, 7)
    assert (verdict.num_broken, verdict.has_top5, verdict.is_passed()) == (0, True, True)
    row = np.array([[np.nan, 0.0, 0.0], [0.0, -1.0, -2.0]], np.float32)
    assert metrics.ranks(row, np.array([1, 2])).tolist() == [3, 2], "what the count stands on"


def test_probe_joins_labels_by_id_and_leaves_out_what_cannot_be_decoded(
    make_member: MakeMember,
) -> None:
    images = np.full((3, 16, 16, 3), 10, np.uint8)
    shards = [ImageShard.pack(["b", "a"], list(images[:2])), ImageShard.pack(["d"], [images[2]])]
    labels = {"a": 0, "b": 1, "c": 2, "d": 2}

    class Stubborn(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.tensor([3.0, 2.0, 1.0]).repeat(len(images), 1)

    ranks = probe(Stubborn(), make_member("m"), shards, labels, torch.device("cpu"))
    assert ranks.tolist() == [1, 0, 2]
