"""Gradient descent with the momentum of Krizhevsky, Sutskever and Hinton 2012, whose velocity holds the rate."""

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch


class PaperSgd(torch.optim.Optimizer):
    """Change weights by v := momentum v - weight_decay lr w - lr g, and w := w + v.

    torch's SGD has the same steps as long as the rate stays: there v is without the rate, which multiplies it
    when the weights change.

    Args:
        parameters: Weights, or groups of them.
        lr: Learning rate.
        momentum: Share of the velocity that the next step keeps.
        weight_decay: Factor of the weights that is added to their gradient.

    Source: Krizhevsky, Sutskever, Hinton 2012, section 5.
    """

    def __init__(
        self, parameters: Iterable[Any], lr: float, momentum: float, weight_decay: float
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Change the weights that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [w for w in group["params"] if w.grad is not None]
            if not weights:
                continue
            gradients = [w.grad for w in weights]
            velocities = [self._velocity(w) for w in weights]
            torch._foreach_mul_(velocities, group["momentum"])
            torch._foreach_add_(velocities, weights, alpha=-group["weight_decay"] * group["lr"])
            torch._foreach_add_(velocities, gradients, alpha=-group["lr"])
            torch._foreach_add_(weights, velocities)
        return loss

    def _velocity(self, weight: torch.Tensor) -> torch.Tensor:
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        velocity: torch.Tensor = state["momentum_buffer"]
        return velocity
