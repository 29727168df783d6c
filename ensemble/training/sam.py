"""Sharpness-aware minimisation: the gradient is taken where the loss is greatest nearby."""

from collections.abc import Callable, Sequence

import torch
from torch import nn


def climb_and_return(
    parameters: Sequence[nn.Parameter], rho: float, backward: Callable[[], object]
) -> None:
    """Replace the gradients by those where the loss is greatest nearby, and leave the weights as they were.

    Nothing is kept in an optimiser's state, so that a checkpoint of it is one of the whole. Gradients that are
    scaled, as those of float16, point where the others do.

    Args:
        parameters: The weights, with the gradients of the loss where they are.
        rho: Radius, in the Euclidean norm of all weights together, that counts as nearby.
        backward: Replaces the gradients by those of the loss at the present weights.

    Source: Foret et al. 2020, equation 2 and Algorithm 1.
    """
    before = [parameter.detach().clone() for parameter in parameters]
    gradients = [p.grad for p in parameters if p.grad is not None]
    with torch.no_grad():
        scale = rho / (nn.utils.get_total_norm(gradients) + 1e-12)
        torch._foreach_add_(list(parameters), torch._foreach_mul(gradients, scale))
    backward()
    with torch.no_grad():
        torch._foreach_copy_(list(parameters), before)
