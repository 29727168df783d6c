"""The training loop: from a network and resized images to trained weights. It writes no file and logs nothing.

Within an epoch the host never waits for the device, so that a GPU always has its next steps queued.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int64
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ensemble.errors import DataError
from ensemble.models.airbench import Whitening
from ensemble.models.heads import find_head
from ensemble.training.augmentation import (
    add_noise,
    augment,
    change_colours,
    erase,
    make_mixer,
    measure_components,
    shift_colours,
)
from ensemble.training.copies import add_copies
from ensemble.training.optimizers import build_optimizer
from ensemble.training.recipe import RecipeConfig
from ensemble.training.schedules import rate_factor
from ensemble.training.step import PreparedBatch, Step
from ensemble.training.step_results import StepResults
from ensemble.training.training_images import (
    Batches,
    ImageBatches,
    Pixels,
    TrainingImages,
    check_images,
    device_bytes_for_images,
    to_float,
)

# Images that principal components, of colours and of patches, are measured on.
_MEASURED_IMAGES = 1024

Triple = tuple[float, float, float]
Prepare = Callable[[torch.Tensor, torch.Tensor], PreparedBatch]


@dataclass(frozen=True)
class EpochLog:
    """Results of one pass over the training images, in training mode and with augmentation.

    Attributes:
        epoch: Number of the epoch, from 0.
        loss_nats: Mean loss over the images.
        accuracy: Share of images whose class was predicted.
        seconds: Wall time of the epoch.
        rate: Learning rate of its last step.
        validation_loss_nats: Mean loss over the validation images after it; None where there are none.
        validation_accuracy: Share of these whose class was predicted.
    """

    epoch: int
    loss_nats: float
    accuracy: float
    seconds: float
    rate: float = 0.0
    validation_loss_nats: float | None = None
    validation_accuracy: float | None = None

    @property
    def watched_loss_nats(self) -> float:
        """The loss on the validation images, or else on those that are trained on."""
        loss = self.validation_loss_nats
        return self.loss_nats if loss is None else loss


@dataclass(frozen=True)
class TrainingLog:
    """All epochs of one training, in order.

    Attributes:
        epochs: Log of each epoch.
        average: Average of the weights, in training mode; None where the recipe wants none.
    """

    epochs: tuple[EpochLog, ...]
    average: AveragedModel | None = None

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
        step: Changes the weights by a batch.
        average: Average of the weights; None where the recipe wants none.
        log: Log of each epoch so far.
        steps_done: Steps of the epoch under way that are done.
        epoch_began: State of the generator when the epoch under way began.
        results: Results of these steps.
        seconds: Wall time of the epoch under way, up to its last interruption.
        order_seed: Seed of the order of the images, if it is drawn apart from the augmentation.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    step: Step
    average: AveragedModel | None = None
    log: list[EpochLog] = field(default_factory=list)
    steps_done: int = 0
    epoch_began: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.uint8))
    results: StepResults = field(default_factory=lambda: StepResults(0))
    seconds: float = 0.0
    order_seed: int | None = None

    def order_generator(self) -> torch.Generator | None:
        """Make the generator of the epoch's order, if that is drawn apart: it needs no state to go on from."""
        if self.order_seed is None:
            return None
        sequence = np.random.SeedSequence([self.order_seed, len(self.log)])
        return torch.Generator().manual_seed(int(sequence.generate_state(1)[0]))


@runtime_checkable
class Checkpoint(Protocol):
    """What is kept after each epoch, as `ensemble.training.epoch_checkpoint` does."""

    def begin(self, training: Training) -> bool:
        """Restore the training, if an earlier one was kept; tell whether to train an epoch."""

    def keep_step(self, training: Training) -> None:
        """Keep the state after a step within an epoch, if it is time to."""

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
    copied = add_copies(images, labels, recipe.copies, seed)
    data = TrainingImages(*copied, device, device_bytes_for_images(device))
    return fit(network, data, label_range, recipe, (mean, std), seed, on_epoch, checkpoint)


def fit(
    network: nn.Module,
    data: Batches,
    label_range: tuple[int, int],
    recipe: RecipeConfig,
    channels: tuple[Triple, Triple] | None,
    seed: int,
    on_epoch: Callable[[EpochLog], None] | None = None,
    checkpoint: Checkpoint | None = None,
    num_classes: int | None = None,
    order_seed: int | None = None,
) -> TrainingLog:
    """Train a network in place on batches of any origin, and leave it in eval mode.

    The other arguments are those of `train`.

    Args:
        network: A classifier.
        data: Draws the batches.
        label_range: Smallest and largest label.
        recipe: Settings of the training.
        channels: Mean and standard deviation of each channel; None for rows that are no images, which are
            neither augmented nor normalised.
        seed: Seed of all that is drawn.
        on_epoch: Called with the log of each epoch after it.
        checkpoint: Keeps each epoch; nothing is kept if None.
        num_classes: Number of logits, which mixed labels are as long as; the largest label and one more if
            None.
        order_seed: Seed of the order of the images; `seed` draws it with all else if None.

    Raises:
        DataError: There are fewer than 2 images, or a label has no logit.
        DivergedError: The loss of a batch is not finite.
    """
    if not data.num_steps(recipe.batch_size * recipe.accumulation):
        raise DataError(
            "there is one image to train on; give at least 2, for normalisation needs a variance."
        )
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    prepare: Prepare = _as_it_is
    if channels is not None:
        assert isinstance(data, ImageBatches)  # what has channels is an image
        _measure_whitening(network, data, channels)
        prepare = _Preparation(
            recipe, channels, num_classes or label_range[1] + 1, generator, data, device
        )
    # In this layout convolutions are a quarter faster on a CPU, and more on a GPU.
    network.train().to(memory_format=torch.channels_last)
    optimizer = build_optimizer(network, recipe)
    head = find_head(network) if recipe.freeze_epochs else ""
    training = Training(
        network,
        optimizer,
        generator,
        Step(network, optimizer, recipe, label_range),
        _average(network, recipe),
        order_seed=order_seed,
    )
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        goes_on = checkpoint is None or checkpoint.begin(training)
        while goes_on and len(training.log) < recipe.epochs:
            _freeze(training, head, len(training.log) < recipe.freeze_epochs)
            training.log.append(_run_epoch(training, data, prepare, recipe, checkpoint))
            if on_epoch is not None:
                on_epoch(training.log[-1])
            goes_on = checkpoint is None or checkpoint.keep(training)
        if checkpoint is not None:
            checkpoint.end(training)
    network.eval().to(memory_format=torch.contiguous_format)
    return TrainingLog(tuple(training.log), training.average)


def _measure_whitening(
    network: nn.Module, data: ImageBatches, channels: tuple[Triple, Triple]
) -> None:
    """Set the weights of whitening layers that have none yet by the training images."""
    layers = [m for m in network.modules() if isinstance(m, Whitening) and not m.is_measured]
    if not layers:
        return
    sample = torch.cat([images for images, _ in data.sample(_MEASURED_IMAGES)])
    mean, std = (torch.tensor(value, device=sample.device).view(3, 1, 1) for value in channels)
    for layer in layers:
        layer.measure((sample - mean) / std)


def _as_it_is(rows: torch.Tensor, labels: torch.Tensor) -> PreparedBatch:
    return PreparedBatch(rows, labels, labels)


class _Preparation:
    """Augments, normalises and mixes batches as a recipe says."""

    def __init__(
        self,
        recipe: RecipeConfig,
        channels: tuple[Triple, Triple],
        num_classes: int,
        generator: torch.Generator,
        data: ImageBatches,
        device: torch.device,
    ) -> None:
        self._recipe, self._generator = recipe, generator
        self._components = torch.zeros(3, 3, device=device)
        if recipe.colour is not None and recipe.colour.pca_sd:
            drawn = data.sample(_MEASURED_IMAGES)
            sample = torch.cat([to_float(images).cpu() for images, _ in drawn])
            self._components = measure_components(sample).to(device)
        self._channels = tuple(
            torch.tensor(value, device=device).view(1, 3, 1, 1) for value in channels
        )
        self._mix = make_mixer(recipe.mixup, recipe.cutmix, num_classes)
        self._unit = self._input = self._offset = self._factor = torch.empty(0)

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> PreparedBatch:
        recipe, targets = self._recipe, labels
        if labels.is_floating_point():  # soft ones, of which the answer is the most probable class
            labels = labels.argmax(dim=1)
        images = self._to_unit(images)
        if recipe.augmentation is not None:
            images = augment(images, recipe.augmentation, self._generator)
        if recipe.colour is not None:
            images = change_colours(images, recipe.colour, self._generator)
            if recipe.colour.pca_sd:
                images = shift_colours(
                    images, self._components, recipe.colour.pca_sd, self._generator
                )
        images = images.sub_(self._offset).div_(self._factor)
        if recipe.noise_sd:
            images = add_noise(images, recipe.noise_sd, self._generator)
        if recipe.erasing is not None:
            images = erase(images, recipe.erasing, self._generator)
        if self._mix is not None:
            images, targets = self._mix(images, labels)
        if not images.is_contiguous(memory_format=torch.channels_last):
            images = self._input[: len(images)].copy_(images)
        return PreparedBatch(images, labels, targets)

    def _to_unit(self, images: torch.Tensor) -> torch.Tensor:
        """Copy a batch into memory of its own, with pixels in [0, 1].

        The memory of a batch is that of the one before: on a CPU, a system that hands out new memory for each
        batch of photographs takes longer than all that is computed in it here.
        """
        if self._unit.shape[1:] != images.shape[1:] or len(self._unit) < len(images):
            # Photographs come as they lie in memory for a network, and stay so.
            is_last = images.is_contiguous(memory_format=torch.channels_last)
            layout = torch.channels_last if is_last else torch.contiguous_format
            self._unit, self._input = (
                torch.empty(images.shape, device=images.device, memory_format=memory_format)
                for memory_format in (layout, torch.channels_last)
            )
            # As large as an image: in this layout, three values for all pixels would be read one by one.
            self._offset, self._factor = (
                value.expand(1, *images.shape[1:]).contiguous(memory_format=layout)
                for value in self._channels
            )
        unit = self._unit[: len(images)].copy_(images)
        return unit if images.is_floating_point() else unit.div_(255)


def _run_epoch(
    training: Training,
    data: Batches,
    prepare: Prepare,
    recipe: RecipeConfig,
    checkpoint: Checkpoint | None,
) -> EpochLog:
    started, epoch, before = time.perf_counter(), len(training.log), training.seconds
    batch_size = recipe.batch_size * recipe.accumulation
    num_steps, first = data.num_steps(batch_size), training.steps_done
    generator, state = training.generator, training.generator.get_state()
    if not first:
        training.results, training.epoch_began = StepResults(epoch), state
    losses = [done.watched_loss_nats for done in training.log]
    rate = 0.0
    # The order of the epoch is drawn again where it goes on in its middle, and then all goes on from there.
    generator.set_state(training.epoch_began)
    batches = data.batches(batch_size, generator, first, training.order_generator())
    for step, (images, labels) in enumerate(batches, start=first):
        if step == first and first:
            generator.set_state(state)
        progress = epoch + (step + 0.5) / num_steps
        rate = recipe.optimizer.lr * rate_factor(recipe.schedule, progress, recipe.epochs, losses)
        for group in training.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        loss_nats, num_correct = training.step.take(prepare(images, labels))
        if training.average is not None:
            training.average.update_parameters(training.network)
        training.results.add(loss_nats, num_correct, len(images), rate)
        training.steps_done = step + 1
        training.seconds = before + time.perf_counter() - started
        if checkpoint is not None and step + 1 < num_steps:
            checkpoint.keep_step(training)
    loss_nats_mean, accuracy = training.results.mean()
    training.steps_done, training.seconds = 0, 0.0
    seconds = before + time.perf_counter() - started
    return EpochLog(epoch, loss_nats_mean, accuracy, seconds, rate)


def _average(network: nn.Module, recipe: RecipeConfig) -> AveragedModel | None:
    if recipe.ema is None:
        return None
    update = get_ema_multi_avg_fn(recipe.ema)  # type: ignore[no-untyped-call]
    return AveragedModel(network, multi_avg_fn=update, use_buffers=True)


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
