"""Results of steps; what only a GPU does is tested where there is one."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ensemble.errors import DivergedError
from ensemble.training.step_results import CHECK_STEPS, StepResults

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

Steps = list[tuple[float, int, int]]
STEPS = st.lists(
    st.tuples(st.floats(0, 100, width=32), st.integers(0, 8), st.integers(2, 8)),
    min_size=1,
    max_size=3 * CHECK_STEPS,
)


def mean_of(steps: Steps, device: str) -> tuple[float, float]:
    results = StepResults(epoch=0)
    for loss, correct, size in steps:
        tensors = (torch.tensor(value, device=device) for value in (loss, correct))
        results.add(*tensors, num_images=size, rate=0.1)
    return results.mean()


def expected_mean(steps: Steps) -> tuple[float, float]:
    loss_sum, num_images = 0.0, sum(size for *_, size in steps)
    for loss, _, size in steps:
        loss_sum += loss * size
    return loss_sum / num_images, sum(correct for _, correct, _ in steps) / num_images


@given(STEPS)
def test_means_are_those_of_numbers_that_were_read_one_by_one(steps: Steps) -> None:
    assert mean_of(steps, "cpu") == expected_mean(steps)


def add_steps(results: StepResults, bad: int, loss_nats: float, device: str) -> None:
    """Add steps, of which the loss of one and of those after it is not finite, until that is noticed."""
    for step in range(4 * CHECK_STEPS):
        # The weights of a step that diverged are of no use, and are never improved.
        assert step <= bad + 2 * CHECK_STEPS
        value = torch.tensor(1.0 if step < bad else loss_nats, device=device)
        results.add(value, torch.tensor(0, device=device), num_images=2, rate=step + 1.0)


@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_cuda])]
)
@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
@pytest.mark.parametrize("bad", [0, 1, CHECK_STEPS - 1, CHECK_STEPS, 2 * CHECK_STEPS - 1])
def test_first_loss_that_is_not_finite_is_named_with_its_own_rate(
    bad: int, loss: float, device: str
) -> None:
    message = rf"loss is {loss} in epoch 7, step {bad}, at learning rate {bad + 1}; .*optimizer.lr"
    with pytest.raises(DivergedError, match=message):
        add_steps(StepResults(epoch=7), bad, loss, device)


def test_a_loss_that_is_not_finite_is_found_at_the_end_of_a_short_epoch() -> None:
    results = StepResults(epoch=0)
    results.add(torch.tensor(float("nan")), torch.tensor(0), num_images=2, rate=0.1)
    with pytest.raises(DivergedError, match="epoch 0, step 0"):
        results.mean()


@pytest.mark.gpu
@needs_cuda
def test_means_are_the_same_on_a_gpu() -> None:
    steps = [(step / 7, step % 3, 2 + step % 4) for step in range(3 * CHECK_STEPS + 5)]
    steps = [(float(torch.tensor(loss)), correct, size) for loss, correct, size in steps]
    assert mean_of(steps, "cuda") == expected_mean(steps)
