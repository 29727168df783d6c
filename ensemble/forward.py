"""How a network is run: precision, memory layout, compilation, and a batch that fits into memory."""

from collections.abc import Callable
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import nn

from ensemble.members import Precision

Value = TypeVar("Value")


class Forward(nn.Module):
    """A network in a precision and a memory layout of its own; float32 comes in and goes out.

    Args:
        network: In evaluation mode; it is changed in place.
        precision: Of weights and activations.
        channels_last: Lay pixels out channel by channel last.
        compiled: Compile it with torch.compile at its first batch.
    """

    def __init__(
        self,
        network: nn.Module,
        precision: Precision = "float32",
        channels_last: bool = False,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self._dtype = getattr(torch, precision)
        self._layout = torch.channels_last if channels_last else torch.preserve_format
        network = network.to(dtype=self._dtype)
        if channels_last:
            network = network.to(memory_format=torch.channels_last)
        self._network = torch.compile(network) if compiled else network

    def forward(
        self, images: Float[torch.Tensor, "image 3 size size"]
    ) -> Float[torch.Tensor, "image class"]:
        """Logits of a batch, in float32."""
        logits: torch.Tensor = self._network(images.to(self._dtype, memory_format=self._layout))
        return logits.to(torch.float32)


def halve_until_it_fits(work: Callable[[int], Value], batch_images: int) -> tuple[Value, int]:
    """Do some work with the largest batch that fits into the GPU's memory.

    Args:
        work: What to do with a batch size.
        batch_images: The batch to begin with.

    Returns:
        What the work gave, and the batch that fitted.

    Raises:
        torch.OutOfMemoryError: Not even one image fits.
    """
    while True:
        try:
            return work(batch_images), batch_images
        except torch.OutOfMemoryError:
            if batch_images == 1:
                raise
        # Outside the handler, whose traceback would keep the tensors alive.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        batch_images //= 2
