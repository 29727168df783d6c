import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ensemble.images.shard import ImageShard
from ensemble.members import Member, Reference
from ensemble.preflight import judge, probe

MakeMember = Callable[..., Member]


def tail(errors: int, images: int, rate: float) -> float:
    """Chance of so many errors or more, term by term."""
    return sum(
        math.comb(images, k) * rate**k * (1 - rate) ** (images - k)
        for k in range(errors, images + 1)
    )


@given(
    st.lists(st.sampled_from([0, 0, 0, 1, 4, 5, 9]), min_size=1, max_size=60),
    st.integers(0, 100),
    st.integers(0, 100) | st.none(),
)
def test_p_value_is_the_exact_tail_of_both_tests(
    ranks: list[int], top1: int, top5: int | None
) -> None:
    verdict = judge("a", np.array(ranks), Reference(top1_error=top1, top5_error=top5))
    expected = [tail(sum(rank >= 1 for rank in ranks), len(ranks), top1 / 100)]
    if top5 is not None:
        expected.append(tail(sum(rank >= 5 for rank in ranks), len(ranks), top5 / 100))
    assert verdict.p_value == pytest.approx(min(1, len(expected) * min(expected)), abs=1e-9)


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
