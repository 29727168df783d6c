"""A network prepared to predict: its precision, memory layout, compilation, and the batch that fits."""

from typing import cast

import torch
from jaxtyping import Float
from torch import nn

from ensemble.members.settings import Precision


class PreparedNetwork(nn.Module):
    """A network in a precision and a memory layout of its own; its input and output are float32.

    A batch that does not fit into the GPU's memory is halved, and later batches are cut to what fitted.

    Args:
        network: A classifier in evaluation mode; it is changed in place.
        precision: Precision of the weights and activations.
        channels_last: Use torch's channels-last memory layout for weights and pixels.
        compiled: Compile the network with torch.compile at the first batch.
        largest_batch: Number of images that is known to fit; batches are not cut if None.
    """

    def __init__(
        self,
        network: nn.Module,
        precision: Precision = "float32",
        channels_last: bool = False,
        compiled: bool = False,
        largest_batch: int | None = None,
    ) -> None:
        super().__init__()
        self._dtype = getattr(torch, precision)
        self._layout = torch.channels_last if channels_last else torch.preserve_format
        network = network.to(dtype=self._dtype)
        if channels_last:
            network = network.to(memory_format=torch.channels_last)
        self._network = cast(nn.Module, torch.compile(network)) if compiled else network
        self.largest_batch = largest_batch

    @property
    def network(self) -> nn.Module:
        """The network in its precision, without what is around it."""
        return self._network

    def forward(
        self, images: Float[torch.Tensor, "image 3 height width"]
    ) -> Float[torch.Tensor, "image class"]:
        """Compute the logits of a batch, in float32.

        Raises:
            torch.OutOfMemoryError: Not even one image fits into the GPU's memory.
        """
        if self.largest_batch is None or len(images) <= self.largest_batch:
            try:
                return self._logits(images)
            except torch.OutOfMemoryError:
                if len(images) == 1:
                    raise
                self.largest_batch = len(images) // 2
            # Outside the handler, whose traceback would keep the tensors alive.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        parts = torch.split(images, self.largest_batch)
        return torch.cat([self.forward(part) for part in parts])

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._network(images.to(self._dtype, memory_format=self._layout))
        return logits.to(torch.float32)
