"""Sharpness-aware minimisation against its two steps written out."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from ensemble.training.recipe import RecipeConfig
from ensemble.training.sam import climb_and_return
from ensemble.training.step import PreparedBatch, Step


@pytest.mark.parametrize("rho", [0.05, 0.5])
def test_the_gradient_of_a_quadratic_is_that_of_the_closed_form(rho: float) -> None:
    # L = 1/2 x'Ax has the gradient Ax, and Foret et al. 2020, equation 2, that of x + rho Ax / |Ax|.
    a = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    start = torch.tensor([1.0, -2.0], dtype=torch.float64)
    # Two parameters, whose gradients have one norm together.
    x, y = (nn.Parameter(value.clone()) for value in start)

    def backward() -> None:
        x.grad = y.grad = None
        point = torch.stack([x, y])
        torch.autograd.backward(0.5 * point @ a @ point)

    backward()
    climb_and_return([x, y], rho, backward)
    slope = a @ start  # (1, -3)
    expected = slope + rho * (a @ slope) / slope.norm()
    gradient = torch.stack([p.grad for p in (x, y) if p.grad is not None])
    torch.testing.assert_close(gradient, expected)
    assert torch.equal(torch.stack([x, y]).detach(), start)


@pytest.mark.parametrize("rho", [0.05, 0.5])
def test_a_step_is_the_gradient_at_the_top_of_the_ball_taken_from_the_old_weights(
    rho: float,
) -> None:
    torch.manual_seed(0)
    images, labels = torch.randn(32, 5), torch.randint(3, (32,))
    network = nn.Linear(5, 3)
    w, b = (p.detach().clone().requires_grad_() for p in network.parameters())

    def gradients(weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, ...]:
        loss = functional.cross_entropy(functional.linear(images, weight, bias), labels)
        return torch.autograd.grad(loss, (weight, bias))

    first = gradients(w, b)
    norm = torch.cat([g.flatten() for g in first]).norm()
    # Foret et al. 2020, equation 2: e(w) = rho g / |g|; then w - lr g(w + e(w)).
    top = [
        (p + rho * g / norm).detach().requires_grad_() for p, g in zip((w, b), first, strict=True)
    ]
    expected = [p - 0.1 * g for p, g in zip((w, b), gradients(top[0], top[1]), strict=True)]

    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    recipe = RecipeConfig(sam_rho=rho)
    loss, _ = Step(network, optimizer, recipe, (0, 2)).take(PreparedBatch(images, labels, labels))
    for found, wanted in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(found.detach(), wanted.detach())
    before = functional.cross_entropy(functional.linear(images, w, b), labels).detach()
    assert float(loss) == pytest.approx(float(before), rel=1e-5)
    assert not optimizer.state
