"""ShakeDrop: Yamada, Iwamura, Akiba, Kise 2018, "ShakeDrop regularization for deep residual learning".

In training a residual x becomes x (b + a - b a) in the forward pass, and its gradient is multiplied by b + c - b c in
the backward pass, with b from a Bernoulli distribution of p, one for a unit and batch, and a from U(-1, 1), c from
U(0, 1), one for each image, as in the authors' code. In eval mode it becomes p x, the expectation.

All numbers come from torch's global generator in the forward pass, so that a training that goes on draws the same.
"""

from typing import Any

import torch
from torch import nn

from ensemble.errors import ConfigError
from ensemble.models.layers import FeatureMaps


class ShakeDrop(nn.Module):
    """Multiply residuals by random factors in training, and by their expectation otherwise.

    Args:
        keep: Probability that a residual is left as it is.
    """

    def __init__(self, keep: float) -> None:
        super().__init__()
        self.keep = keep

    def forward(self, residual: FeatureMaps) -> FeatureMaps:
        """Apply it to the residuals of a unit."""
        if not self.training:
            return residual * self.keep
        draws = torch.rand(2, len(residual), 1, 1, 1, device=residual.device, dtype=residual.dtype)
        is_kept = torch.rand((), device=residual.device) < self.keep
        # b + a - b a is 1 where b is 1, and a where it is 0.
        forward_factor, backward_factor = (
            torch.where(is_kept, 1.0, share) for share in (2 * draws[0] - 1, draws[1])
        )
        output: torch.Tensor = _Shake.apply(residual, forward_factor, backward_factor)
        return output

    def extra_repr(self) -> str:
        """Tell the probability in the text of a network."""
        return f"keep={self.keep:g}"


def keep_probabilities(num_units: int, last: float) -> list[float]:
    """List the probability of each unit, which falls linearly with depth to that of the last one.

    Args:
        num_units: Number of units of the network.
        last: Probability of the last one, as 0.5.

    Raises:
        ConfigError: The probability is not in (0, 1].
    """
    if not 0 < last <= 1:
        raise ConfigError(
            f"shakedrop is {last:g}; give a probability above 0 and at most 1, as 0.5."
        )
    return [1 - unit / num_units * (1 - last) for unit in range(1, num_units + 1)]


class _Shake(torch.autograd.Function):
    """Multiply by one factor forward, and the gradient by another one backward."""

    @staticmethod
    def forward(
        ctx: Any, residual: torch.Tensor, factor: torch.Tensor, gradient_factor: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(gradient_factor)
        return residual * factor

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[torch.Tensor, None, None]:
        (gradient_factor,) = ctx.saved_tensors
        return gradients[0] * gradient_factor, None, None
