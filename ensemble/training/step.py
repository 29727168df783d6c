"""One step of a training: gradients of a batch, and the change of the weights. The host reads no value."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Float64, Int64
from torch import nn
from torch.nn import functional

from ensemble.errors import ConfigError, DataError
from ensemble.training.augmentation_settings import NoiseConfig
from ensemble.training.noise import add_gradient_noise, noisy_activations, noisy_weights
from ensemble.training.recipe import RecipeConfig
from ensemble.training.sam import climb_and_return

Loss = Float64[torch.Tensor, ""]
Count = Int64[torch.Tensor, ""]


@dataclass(frozen=True)
class PreparedBatch:
    """A batch as the network is given it.

    Attributes:
        images: Normalised images, augmented.
        labels: Class index of each image.
        targets: What the loss compares with: the labels, or a probability of each class where images are
            mixed.
    """

    images: Float[torch.Tensor, "image ..."]
    labels: Int64[torch.Tensor, " image"]
    targets: Int64[torch.Tensor, " image"] | Float[torch.Tensor, "image class"]

    def rows(self, rows: torch.Tensor) -> "PreparedBatch":
        """Take some images."""
        return PreparedBatch(self.images[rows], self.labels[rows], self.targets[rows])


class Step:
    """Changes the weights of a network by one batch after the other.

    Args:
        network: The network, in training mode.
        optimizer: Optimiser of its parameters.
        recipe: Settings of the training.
        label_range: Smallest and largest label of all images.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        recipe: RecipeConfig,
        label_range: tuple[int, int],
    ) -> None:
        self._network, self._optimizer, self._recipe = network, optimizer, recipe
        self._label_range = label_range
        self._forward = compile_network(network) if recipe.compile else network
        device_type = next(network.parameters()).device.type
        # Only float16 has so few small numbers that gradients are scaled; else it is a step as it is.
        self.scaler = torch.amp.GradScaler(device_type, enabled=recipe.precision == "float16")
        # Number of parts that each batch is cut into, because a whole one does not fit into memory.
        self.parts = recipe.accumulation

    def take(self, batch: PreparedBatch) -> tuple[Loss, Count]:
        """Take a step, and return the mean loss in nats and the number of correct answers before it."""
        noise = self._recipe.noise or NoiseConfig()
        trained = [p for p in self._network.parameters() if p.requires_grad]
        with (
            noisy_weights(trained, noise.weights),
            noisy_activations(self._network, noise.activations),
        ):
            results = self._backward(batch)
            parameters = [p for p in trained if p.grad is not None]
            if self._recipe.sam_rho is not None:
                with _still_statistics(self._network):
                    climb_and_return(
                        parameters, self._recipe.sam_rho, partial(self._backward, batch)
                    )
        if noise.gradients or self._recipe.clip_norm is not None:
            self.scaler.unscale_(self._optimizer)
        if noise.gradients:
            add_gradient_noise(parameters, noise.gradients)
        if self._recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(parameters, self._recipe.clip_norm)
        self.scaler.step(self._optimizer)
        self.scaler.update()
        return results

    def _backward(self, batch: PreparedBatch) -> tuple[Loss, Count]:
        """Compute the gradients of a batch's mean loss, in parts half as large whenever memory does not suffice.

        The gradients of the parts add up to those of the whole batch, but for batch normalisation,
        which normalises each part alone.
        """
        while True:
            self._optimizer.zero_grad()
            try:
                return self._backward_in_parts(batch)
            except torch.OutOfMemoryError:
                # A part of one image has no variance to normalise by.
                if len(batch.images) < 4 * self.parts:
                    raise
                self.parts *= 2

    def _backward_in_parts(self, batch: PreparedBatch) -> tuple[Loss, Count]:
        count, device = len(batch.images), batch.images.device
        loss_nats = torch.zeros((), dtype=torch.float64, device=device)
        num_correct = torch.zeros((), dtype=torch.int64, device=device)
        num_parts = max(1, min(self.parts, count // 2))
        smoothing = self._recipe.label_smoothing
        precision = getattr(torch, self._recipe.precision)
        for rows in torch.tensor_split(torch.arange(count, device=device), num_parts):
            part = batch if len(rows) == count else batch.rows(rows)
            # Autocast keeps normalisation and weights in float32; the loss is taken in float32 as well.
            with torch.autocast(device.type, precision, precision != torch.float32):
                logits: torch.Tensor = self._forward(part.images).float()
            _check_labels(self._label_range, logits.shape[1])
            loss = functional.cross_entropy(logits, part.targets, label_smoothing=smoothing)
            loss = loss * (len(rows) / count)
            torch.autograd.backward(self.scaler.scale(loss))
            loss_nats += loss.detach()
            num_correct += (logits.detach().argmax(dim=1) == part.labels).sum()
        return loss_nats, num_correct


def compile_network(network: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    """Compile a network at its first batch; the network itself stays as it is.

    Each size of a batch has code of its own, so that a training that goes on computes as the interrupted one did.

    Raises:
        ConfigError: torch cannot compile it, as without a compiler of C++; raised at the first batch.
    """
    # Here, because it takes seconds to import.
    from torch._dynamo.exc import TorchDynamoException

    compiled = torch.compile(network, dynamic=False)

    def forward(images: torch.Tensor) -> torch.Tensor:
        try:
            logits: torch.Tensor = compiled(images)
        except TorchDynamoException as error:
            reason = str(error).strip().partition("\n")[0]
            raise ConfigError(
                f"torch cannot compile the network ({type(error).__name__}: {reason}). Set compile=false in the "
                "recipe, or install what is missing: a C++ compiler for a CPU, Triton for a GPU."
            ) from error
        return logits

    return forward


@contextmanager
def _still_statistics(network: nn.Module) -> Iterator[None]:
    """Keep the statistics of batch normalisation as they are for a pass over a batch that was seen already."""
    layers = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


def _check_labels(label_range: tuple[int, int], num_classes: int) -> None:
    low, high = label_range
    if low < 0 or high >= num_classes:
        raise DataError(
            f"labels run from {low} to {high}, but the network has {num_classes} logits "
            f"(0 to {num_classes - 1}); build it with the number of classes in the data."
        )
