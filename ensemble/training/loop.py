"""The training loop: from a network and resized images to trained weights. It writes no file and logs nothing.

Within an epoch the host never waits for the device, so that a GPU always has its next steps queued.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float64, Int64
from torch import nn
from torch.nn import functional

from ensemble.errors import DataError
from ensemble.models.heads import find_head
from ensemble.training.augmentation import augment
from ensemble.training.recipe import RecipeConfig, SgdConfig
from ensemble.training.schedules import rate_factor
from ensemble.training.step_results import StepResults
from ensemble.training.training_images import (
    Batches,
    Pixels,
    TrainingImages,
    check_images,
    device_bytes_for_images,
)

Triple = tuple[float, float, float]

# Blocks of layers that a layer decay tells apart, as many as a common vision transformer has.
DEPTH_BLOCKS = 12


@dataclass(frozen=True)
class EpochLog:
    """Results of one pass over the training images, in training mode and with augmentation.

    Attributes:
        epoch: Number of the epoch, from 0.
        loss_nats: Mean loss over the images.
        accuracy: Share of images whose class was predicted.
        seconds: Wall time of the epoch.
    """

    epoch: int
    loss_nats: float
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class TrainingLog:
    """All epochs of one training, in order.

    Attributes:
        epochs: Log of each epoch.
    """

    epochs: tuple[EpochLog, ...]

    @property
    def seconds(self) -> float:
        """Wall time of all epochs together, in seconds."""
        return sum(epoch.seconds for epoch in self.epochs)


@dataclass
class Training:
    """The state of a training under way.

    Attributes:
        network: The network, in training mode.
        optimizer: Optimiser of the network's parameters.
        generator: Generator of the order of the images and of the augmentation.
        label_range: Smallest and largest label of all images.
        parts: Number of parts that each batch is cut into, because a whole one does not fit into memory.
        log: Log of each epoch so far.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    label_range: tuple[int, int]
    parts: int = 1
    log: list[EpochLog] = field(default_factory=list)


@runtime_checkable
class Checkpoint(Protocol):
    """What is kept after each epoch, as `ensemble.training.epoch_checkpoint` does."""

    def begin(self, training: Training) -> bool:
        """Restore the training, if an earlier one was kept; tell whether to train an epoch."""

    def keep(self, training: Training) -> bool:
        """Keep the state after an epoch; tell whether to train another one."""

    def end(self, training: Training) -> None:
        """Load the weights that the training results in into the network."""


def train(
    network: nn.Module,
    images: Pixels,
    labels: Int64[torch.Tensor, " image"],
    recipe: RecipeConfig,
    mean: Triple,
    std: Triple,
    seed: int,
    on_epoch: Callable[[EpochLog], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> TrainingLog:
    """Train a network in place and leave it in eval mode.

    On a CPU, equal arguments and equal initial weights give equal weights to the bit, for a given
    number of threads, whatever was drawn before; the global generators are left as they were.

    Args:
        network: A classifier; the images go to the device it is on.
        images: Pixels in [0, 1], or from 0 to 255 as uint8, resized but not normalised.
        labels: Class index of each image.
        recipe: Settings of the training.
        mean: Mean of each channel, subtracted after the augmentation.
        std: Standard deviation of each channel, divided by after the augmentation.
        seed: Seed of the order of the images, the augmentation and the dropout.
        on_epoch: Called with the log of each epoch after it.
        checkpoint: Keeps each epoch, goes on with a training that was interrupted, and can end it
            early; nothing is kept if None.

    Raises:
        DataError: There are fewer than 2 images, a pixel lies outside [0, 1], or a label has no logit.
        DivergedError: The loss of a batch is not finite. Losses are read every 32 steps
            (`step_results.CHECK_STEPS`), on a GPU 32 steps late, and at the end of an epoch; the
            step that is named is the one that diverged.
    """
    check_images(images, labels)
    label_range = int(labels.min()), int(labels.max())
    device = next(network.parameters()).device
    data = TrainingImages(images, labels, device, device_bytes_for_images(device))
    return fit(network, data, label_range, recipe, mean, std, seed, on_epoch, checkpoint)


def fit(
    network: nn.Module,
    data: Batches,
    label_range: tuple[int, int],
    recipe: RecipeConfig,
    mean: Triple,
    std: Triple,
    seed: int,
    on_epoch: Callable[[EpochLog], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> TrainingLog:
    """Train a network in place on batches of any origin, and leave it in eval mode.

    The arguments are those of `train`, but for `data`, which draws the batches, and `label_range`, the
    smallest and the largest label in it.

    Raises:
        DataError: A label has no logit.
        DivergedError: The loss of a batch is not finite.
    """
    device = next(network.parameters()).device
    offset, factor = (torch.tensor(value, device=device).view(3, 1, 1) for value in (mean, std))
    generator = torch.Generator().manual_seed(seed)

    def prepare(
        batch: Float[torch.Tensor, "batch 3 height width"],
    ) -> Float[torch.Tensor, "batch 3 height width"]:
        if recipe.augmentation is not None:
            batch = augment(batch, recipe.augmentation, generator)
        return ((batch - offset) / factor).contiguous(memory_format=torch.channels_last)

    # In this layout convolutions are a quarter faster on a CPU, and more on a GPU.
    network.train().to(memory_format=torch.channels_last)
    optimizer = _build_optimizer(network, recipe)
    head = find_head(network) if recipe.freeze_epochs else ""
    training = Training(network, optimizer, generator, label_range)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        goes_on = checkpoint is None or checkpoint.begin(training)
        while goes_on and len(training.log) < recipe.epochs:
            _freeze(training, head, len(training.log) < recipe.freeze_epochs)
            training.log.append(_run_epoch(training, data, prepare, recipe))
            if on_epoch is not None:
                on_epoch(training.log[-1])
            goes_on = checkpoint is None or checkpoint.keep(training)
        if checkpoint is not None:
            checkpoint.end(training)
    network.eval().to(memory_format=torch.contiguous_format)
    return TrainingLog(tuple(training.log))


def _run_epoch(
    training: Training,
    data: Batches,
    prepare: Callable[[torch.Tensor], torch.Tensor],
    recipe: RecipeConfig,
) -> EpochLog:
    started, epoch = time.perf_counter(), len(training.log)
    results, num_steps = StepResults(epoch), data.num_steps(recipe.batch_size)
    for step, (images, labels) in enumerate(data.batches(recipe.batch_size, training.generator)):
        progress = epoch + (step + 0.5) / num_steps
        rate = recipe.optimizer.lr * rate_factor(recipe.schedule, progress, recipe.epochs)
        for group in training.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        loss_nats, num_correct = _backward(training, prepare(images), labels, recipe)
        training.optimizer.step()
        results.add(loss_nats, num_correct, len(images), rate)
    loss_nats_mean, accuracy = results.mean()
    return EpochLog(epoch, loss_nats_mean, accuracy, time.perf_counter() - started)


def _backward(
    training: Training, batch: torch.Tensor, labels: torch.Tensor, recipe: RecipeConfig
) -> tuple[Float64[torch.Tensor, ""], Int64[torch.Tensor, ""]]:
    """Compute the gradients of a batch's mean loss, in parts half as large whenever memory does not suffice.

    The gradients of the parts add up to those of the whole batch, but for batch normalisation,
    which normalises each part alone.
    """
    while True:
        training.optimizer.zero_grad()
        try:
            return _backward_in_parts(training, batch, labels, recipe)
        except torch.OutOfMemoryError:
            # A part of one image has no variance to normalise by.
            if len(batch) < 4 * training.parts:
                raise
            training.parts *= 2


def _backward_in_parts(
    training: Training, batch: torch.Tensor, labels: torch.Tensor, recipe: RecipeConfig
) -> tuple[Float64[torch.Tensor, ""], Int64[torch.Tensor, ""]]:
    loss_nats = torch.zeros((), dtype=torch.float64, device=batch.device)
    num_correct = torch.zeros((), dtype=torch.int64, device=batch.device)
    num_parts = max(1, min(training.parts, len(batch) // 2))
    for rows in torch.tensor_split(torch.arange(len(batch), device=batch.device), num_parts):
        is_whole = len(rows) == len(batch)
        part, targets = (batch, labels) if is_whole else (batch[rows], labels[rows])
        # Autocast keeps normalisation and weights in float32; the loss is taken in float32 as well.
        with torch.autocast(part.device.type, torch.bfloat16, recipe.precision == "bfloat16"):
            logits: torch.Tensor = training.network(part).float()
        _check_labels(training.label_range, logits.shape[1])
        loss = functional.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)
        loss = loss * (len(rows) / len(batch))
        torch.autograd.backward(loss)
        loss_nats += loss.detach()
        num_correct += (logits.detach().argmax(dim=1) == targets).sum()
    return loss_nats, num_correct


def _freeze(training: Training, head: str, is_frozen: bool) -> None:
    """Freeze or thaw all but the head; frozen parts keep their statistics and drop nothing out."""
    training.network.train()
    if not head:
        return
    training.network.requires_grad_(not is_frozen)
    if is_frozen:
        training.network.eval()
        layer = training.network.get_submodule(head)
        layer.train().requires_grad_(True)
        for parameter in training.network.parameters():
            # The optimiser leaves alone what has no gradient: not even its decay moves a frozen weight.
            parameter.grad = parameter.grad if parameter.requires_grad else None


def _build_optimizer(network: nn.Module, recipe: RecipeConfig) -> torch.optim.Optimizer:
    config = recipe.optimizer
    parameters: list[Any] = [p for p in network.parameters() if p.requires_grad]
    if recipe.layer_decay != 1:
        parameters = _group_by_depth(network, recipe.layer_decay)
    if isinstance(config, SgdConfig):
        return torch.optim.SGD(
            parameters,
            lr=config.lr,
            momentum=config.momentum,
            nesterov=config.nesterov,
            weight_decay=config.weight_decay,
        )
    return torch.optim.AdamW(
        parameters,
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        weight_decay=config.weight_decay,
    )


def _group_by_depth(network: nn.Module, layer_decay: float) -> list[dict[str, Any]]:
    """Group parameters by depth, each group with the factor of its learning rate.

    timm's grouping needs a network of timm's; this one goes by the order of the parameters.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    groups = []
    for block in range(DEPTH_BLOCKS):
        part = slice(
            block * len(parameters) // DEPTH_BLOCKS, (block + 1) * len(parameters) // DEPTH_BLOCKS
        )
        if parameters[part]:
            scale = layer_decay ** (DEPTH_BLOCKS - 1 - block)
            groups.append({"params": parameters[part], "lr_scale": scale})
    return groups


def _check_labels(label_range: tuple[int, int], num_classes: int) -> None:
    low, high = label_range
    if low < 0 or high >= num_classes:
        raise DataError(
            f"labels run from {low} to {high}, but the network has {num_classes} logits "
            f"(0 to {num_classes - 1}); build it with the number of classes in the data."
        )
