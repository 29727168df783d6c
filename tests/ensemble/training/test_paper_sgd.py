"""The momentum of Krizhevsky et al. against its formula and against torch's, and its state."""

import pytest
import torch
from torch import nn

from ensemble.training.optimizer_settings import SgdConfig
from ensemble.training.optimizers import build_optimizer, join_state, split_state
from ensemble.training.paper_sgd import PaperSgd
from ensemble.training.recipe import RecipeConfig

PAPER = SgdConfig(lr=0.01, momentum=0.9, weight_decay=0.0005, nesterov=False, rule="paper")


def quadratic(weights: torch.Tensor) -> torch.Tensor:
    return (torch.tensor([1.0, 4.0, 9.0]) * (weights - 1) ** 2).sum()


def follow(optimizer_of: type, rates: list[float], **settings: float) -> list[torch.Tensor]:
    weights = nn.Parameter(torch.tensor([2.0, -1.0, 0.5]))
    optimizer = optimizer_of([weights], lr=rates[0], **settings)
    path = []
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        quadratic(weights).backward()
        optimizer.step()
        path.append(weights.detach().clone())
    return path


def test_steps_are_those_of_the_formula_where_the_rate_drops() -> None:
    rates = [0.01] * 5 + [0.001] * 5
    path = follow(PaperSgd, rates, momentum=0.9, weight_decay=0.0005)
    w, v = torch.tensor([2.0, -1.0, 0.5]), torch.zeros(3)
    for eps, found in zip(rates, path, strict=True):
        gradient = 2 * torch.tensor([1.0, 4.0, 9.0]) * (w - 1)
        v = 0.9 * v - 0.0005 * eps * w - eps * gradient
        w = w + v
        torch.testing.assert_close(found, w)


def test_it_is_torchs_as_long_as_the_rate_stays_and_another_after() -> None:
    settings = {"momentum": 0.9, "weight_decay": 0.0005}
    rates = [0.01] * 6 + [0.001]
    ours, theirs = (follow(o, rates, **settings) for o in (PaperSgd, torch.optim.SGD))
    for a, b in zip(ours[:6], theirs[:6], strict=True):
        torch.testing.assert_close(a, b)
    assert not torch.allclose(ours[6], theirs[6])


def test_its_state_goes_on_from_a_checkpoint_and_frozen_weights_stay() -> None:
    network = nn.Linear(3, 2)
    optimizer = build_optimizer(network, RecipeConfig(optimizer=PAPER))
    assert isinstance(optimizer, PaperSgd)
    network.weight.grad = torch.ones_like(network.weight)
    bias = network.bias.detach().clone()
    optimizer.step()
    assert torch.equal(network.bias, bias)
    other = build_optimizer(network, RecipeConfig(optimizer=PAPER))
    join_state(other, *split_state(optimizer))
    velocities = [o.state[network.weight]["momentum_buffer"] for o in (optimizer, other)]
    assert torch.equal(*velocities)


def test_it_has_no_nesterov_momentum() -> None:
    with pytest.raises(ValueError, match="set nesterov=false too"):
        SgdConfig(rule="paper")
