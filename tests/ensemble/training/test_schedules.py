import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from ensemble.training.schedule_settings import ExponentialConfig, PlateauConfig, WarmRestartsConfig
from ensemble.training.schedules import rate_factor


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


@given(
    st.lists(st.floats(0.1, 2.0), min_size=1, max_size=30),
    st.integers(0, 4),
    st.sampled_from([0.0, 1e-4, 0.2]),
)
def test_plateau_drops_when_torchs_does(
    losses: list[float], patience: int, threshold: float
) -> None:
    config = PlateauConfig(factor=0.5, patience=patience, threshold=threshold)
    theirs = optimizer()
    scheduler = lr_scheduler.ReduceLROnPlateau(
        theirs, factor=0.5, patience=patience, threshold=threshold, eps=0.0
    )
    for count, loss in enumerate(losses, start=1):
        scheduler.step(loss)
        ours = rate_factor(config, float(count), 100, losses[:count])
        assert ours == pytest.approx(theirs.param_groups[0]["lr"])


@pytest.mark.parametrize("growth", [1, 2])
def test_warm_restarts_are_those_of_torch(growth: int) -> None:
    config, theirs = WarmRestartsConfig(first_epochs=3, growth=growth), optimizer()
    scheduler = lr_scheduler.CosineAnnealingWarmRestarts(theirs, T_0=3, T_mult=growth)
    for tenth in range(1, 120):
        scheduler.step(tenth / 10)
        assert rate_factor(config, tenth / 10, 12) == pytest.approx(
            theirs.param_groups[0]["lr"], abs=1e-6
        )


def test_cycles_end_where_the_rate_starts_again() -> None:
    assert WarmRestartsConfig(first_epochs=3).ends(10) == (3, 6, 9)
    assert WarmRestartsConfig(first_epochs=2, growth=2).ends(14) == (2, 6, 14)


def test_exponential_rate_falls_after_each_epoch() -> None:
    factors = [rate_factor(ExponentialConfig(factor=0.5), epoch, 4) for epoch in (0.1, 0.9, 1.5)]
    assert factors == [1.0, 1.0, 0.5]


@given(st.floats(0, 40), st.floats(0.5, 12), st.sampled_from([0.0, 0.01, 0.3]), st.booleans())
def test_exponential_rate_is_its_closed_form(
    epoch: float, stage: float, floor: float, is_continuous: bool
) -> None:
    config = ExponentialConfig(
        factor=0.8, stage_epochs=stage, floor=floor, is_continuous=is_continuous
    )
    stages = epoch / stage if is_continuous else epoch // stage
    assert rate_factor(config, epoch, 40) == pytest.approx(max(floor, 0.8**stages))


def test_exponential_rate_is_that_of_torch() -> None:
    theirs = optimizer()
    scheduler = lr_scheduler.ExponentialLR(theirs, gamma=0.9)
    for epoch in range(20):
        ours = rate_factor(ExponentialConfig(factor=0.9), epoch + 0.5, 20)
        assert ours == pytest.approx(theirs.param_groups[0]["lr"])
        theirs.step()
        scheduler.step()


def test_a_plateau_rises_in_a_line_first_and_does_not_count_losses_meanwhile() -> None:
    config = PlateauConfig(factor=0.5, patience=1, warmup_epochs=4)
    assert [rate_factor(config, e, 20) for e in (0.0, 1.0, 3.0)] == [0.0, 0.25, 0.75]
    rising = [1.0, 2.0, 3.0, 4.0]
    assert rate_factor(config, 4.5, 20, rising) == 1.0
    assert rate_factor(config, 7.5, 20, [*rising, 5.0, 5.0]) == 1.0
    assert rate_factor(config, 8.5, 20, [*rising, 5.0, 5.0, 5.0]) == 0.5
