import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ensemble.images.shard import ImageShard
from ensemble.members import Member, Reference
from ensemble.preflight import USUAL, Answers, find_better, judge, probe, probe_otherwise

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


def test_probe_joins_labels_by_id_and_leaves_out_what_cannot_be_decoded(
    make_member: MakeMember,
) -> None:
    images = np.full((3, 16, 16, 3), 10, np.uint8)
    shards = [ImageShard.pack(["b", "a"], list(images[:2])), ImageShard.pack(["d"], [images[2]])]
    labels = {"a": 0, "b": 1, "c": 2, "d": 2}

    class Stubborn(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.tensor([3.0, 2.0, 1.0]).repeat(len(images), 1)

    cpu = torch.device("cpu")
    answers = probe(Stubborn(), make_member("m"), shards, labels, cpu)
    assert answers.ranks.tolist() == [1, 0, 2]
    expected = -torch.tensor([3.0, 2.0, 1.0]).log_softmax(0)[[1, 0, 2]]
    np.testing.assert_allclose(answers.losses, expected.numpy(), rtol=1e-5)
    others = probe_otherwise(Stubborn(), make_member("m"), shards, labels, cpu)
    assert others.keys() == USUAL.keys()
    to = make_member("m").preprocessing.model_copy(update={"mean": (0.5,) * 3, "std": (0.5,) * 3})
    half = make_member("m", preprocessing=to)
    assert len(probe_otherwise(Stubborn(), half, shards, labels, cpu)) == len(USUAL) - 1


def said(ranks: list[int], losses: list[float]) -> Answers:
    return Answers(np.array(ranks), np.array(losses, np.float32))


def test_normalisation_is_better_only_if_it_is_clearly_so() -> None:
    rng = np.random.default_rng(0)
    losses = rng.exponential(1, 200)
    ranks = (losses > 1.5).astype(int).tolist()
    noise = rng.normal(0, 0.3, 200)
    given = said(ranks, losses.tolist())
    half = said(ranks, (losses * 0.5 + 0.01 * noise).tolist())
    third = said(ranks, (losses * 0.3 + 0.01 * noise).tolist())
    assert find_better(given, {"half": half, "third": third}) == "third"
    assert find_better(given, {"half": half, "same": given}) == "half"
    assert find_better(given, {}) is None
    # A gain that may be calibration, one that costs errors, and one that may be luck.
    slight = said(ranks, (losses * 0.95).tolist())
    worse = said([1] * 200, (losses * 0.5).tolist())
    lucky = said(ranks[:4], (losses[:4] - [2, -1.4, 1, -0.9]).tolist())
    assert find_better(given, {"slight": slight, "worse": worse}) is None
    assert find_better(said(ranks[:4], losses[:4].tolist()), {"lucky": lucky}) is None


def test_doubt_is_where_errors_do_not_decide() -> None:
    few, many = np.repeat([0, 1], [185, 15]), np.repeat([0, 1], [178, 22])
    reference = Reference(top1_error=8.35)
    assert not judge("a", few, reference).is_in_doubt
    assert judge("a", few, None).is_in_doubt
    verdict = judge("a", many, reference)
    assert verdict.is_in_doubt
    assert verdict.is_passed()
    assert not replace(verdict, better="mean 0 and std 1").is_passed()
