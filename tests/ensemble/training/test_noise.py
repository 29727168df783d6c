"""Noise on weights, gradients and activations: as large as the formula says, and gone after a step."""

import pytest
import torch
from torch import nn

from ensemble.errors import ConfigError
from ensemble.training.noise import add_gradient_noise, noisy_activations, noisy_weights
from ensemble.training.recipe import RecipeConfig
from ensemble.training.step import PreparedBatch, Step


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def _root_mean_square(values: torch.Tensor) -> float:
    return float(values.detach().square().mean().sqrt())


def test_weights_have_noise_of_a_share_of_their_size_for_a_while() -> None:
    layer = nn.Linear(300, 200)
    parameters, before = list(layer.parameters()), [p.detach().clone() for p in layer.parameters()]
    with noisy_weights(parameters, 0.5):
        noise = layer.weight.detach() - before[0]
        assert _root_mean_square(noise) == pytest.approx(
            0.5 * _root_mean_square(before[0]), rel=0.02
        )
        assert abs(float(noise.mean())) < 0.01 * _root_mean_square(noise) * 2
    assert all(torch.equal(p, old) for p, old in zip(parameters, before, strict=True))
    with pytest.raises(ZeroDivisionError), noisy_weights(parameters, 0.5):
        _ = 1 // 0
    assert all(torch.equal(p, old) for p, old in zip(parameters, before, strict=True))


def test_gradients_have_noise_of_a_share_of_their_size() -> None:
    layer = nn.Linear(300, 200)
    layer.weight.grad = torch.full((200, 300), 3.0)
    add_gradient_noise([layer.weight, layer.bias], 0.1)
    noise = layer.weight.grad - 3
    assert float(noise.std()) == pytest.approx(0.3, rel=0.02)
    assert layer.bias.grad is None


def test_activations_have_noise_in_training_mode_alone() -> None:
    network = nn.Sequential(nn.Linear(50, 400), nn.ReLU())
    images = torch.randn(200, 50)
    clean = network(images).detach()
    with noisy_activations(network, 0.2):
        noise = network(images) - clean
        assert _root_mean_square(noise) == pytest.approx(0.2 * _root_mean_square(clean), rel=0.02)
        assert torch.equal(network.eval()(images), clean)
    assert torch.equal(network.train()(images), clean)
    with (
        pytest.raises(ConfigError, match="no activation function"),
        noisy_activations(nn.Linear(2, 2), 1.0),
    ):
        pass


def test_a_step_with_noisy_weights_takes_their_gradient_from_the_weights_as_they_were() -> None:
    images, labels = torch.randn(32, 5), torch.randint(3, (32,))
    network = nn.Linear(5, 3)
    before = [p.detach().clone() for p in network.parameters()]
    torch.manual_seed(7)
    noisy = [p + torch.randn_like(p) * 0.3 * p.square().mean().sqrt() for p in before]
    w, b = (p.clone().requires_grad_() for p in noisy)
    loss = nn.functional.cross_entropy(nn.functional.linear(images, w, b), labels)
    gradients = torch.autograd.grad(loss, (w, b))
    recipe = RecipeConfig.model_validate({"noise": {"weights": 0.3}})
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    torch.manual_seed(7)
    Step(network, optimizer, recipe, (0, 2)).take(PreparedBatch(images, labels, labels))
    for found, old, gradient in zip(network.parameters(), before, gradients, strict=True):
        torch.testing.assert_close(found.detach(), old - 0.1 * gradient)
