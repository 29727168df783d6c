"""Gaussian noise on weights, gradients and activations while a network is trained.

Each is as large as a share of the root mean square of the tensor that it is added to, so that one setting fits all
layers. Source: the noise on a network's parts that the review of Boyat and Joshi 2015 tells of; weights as in Graves
2011, gradients as in Neelakantan et al. 2015, here without a decay.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from ensemble.errors import ConfigError
from ensemble.models.layers import ACTIVATIONS


@contextmanager
def noisy_weights(parameters: Sequence[nn.Parameter], share: float) -> Iterator[None]:
    """Add noise to weights for the passes over one batch, and give them back as they were.

    Args:
        parameters: The weights.
        share: Standard deviation of the noise, as a share of the root mean square of each tensor; 0 for none.
    """
    if not share:
        yield
        return
    before = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(_noise_like(parameter, share))
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(list(parameters), before)


def add_gradient_noise(parameters: Sequence[nn.Parameter], share: float) -> None:
    """Add noise to the gradients of a batch.

    Args:
        parameters: The weights, whose gradients are there.
        share: Standard deviation of the noise, as a share of the root mean square of each gradient.
    """
    with torch.no_grad():
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.add_(_noise_like(parameter.grad, share))


@contextmanager
def noisy_activations(network: nn.Module, share: float) -> Iterator[None]:
    """Add noise to the output of every activation function of a network that is in training mode.

    Args:
        network: The network.
        share: Standard deviation of the noise, as a share of the root mean square of the outputs; 0 for none.

    Raises:
        ConfigError: The network has no activation function that can be told from its other parts.
    """
    if not share:
        yield
        return
    kinds = tuple({type(make()) for make in ACTIVATIONS.values()} | {nn.GELU, nn.SiLU, nn.ReLU6})
    layers = [module for module in network.modules() if isinstance(module, kinds)]
    if not layers:
        raise ConfigError(
            "recipe.noise.activations is set, and the network has no activation function as a part of its own. Leave "
            "it out, or take another architecture."
        )

    def add(module: nn.Module, _: object, output: torch.Tensor) -> torch.Tensor:
        return output + _noise_like(output, share) if module.training else output

    handles = [layer.register_forward_hook(add) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _noise_like(values: torch.Tensor, share: float) -> torch.Tensor:
    root_mean_square = values.detach().square().mean().sqrt()
    return torch.randn_like(values) * (share * root_mean_square)
