"""Carry out a training task: from decoded shards to a checkpoint with weights, preprocessing and metadata."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from torch import nn

from ensemble.checkpoints import file as checkpoint
from ensemble.files import write_atomic
from ensemble.images.shard import ImageShard
from ensemble.members.settings import Preprocessing
from ensemble.models.heads import find_head
from ensemble.training.data import open_data
from ensemble.training.epoch_checkpoint import EpochCheckpoint
from ensemble.training.features import open_features
from ensemble.training.loop import EpochLog, fit
from ensemble.training.start import build_start, scores_of_start
from ensemble.training.task import TrainTask


def train_member(
    task: TrainTask,
    shards: Sequence[ImageShard],
    device: torch.device,
    on_epoch: Callable[[EpochLog], None] | None = None,
) -> Path:
    """Train on the task's images and publish the checkpoint; go on where an earlier attempt stopped.

    Args:
        task: The task, which names network, recipe and images.
        shards: Decoded images, among them all of the task's; the others are ignored.
        device: Device to train on.
        on_epoch: Called with the log of each epoch after it, before it is judged.

    Raises:
        EmptySplitError: None of the task's images could be decoded.
    """
    if task.is_done:
        return task.checkpoint  # trained by another process meanwhile
    network = build_start(task).to(device)
    if task.recipe.head_only:
        data = open_features(task, network, shards, device)
        trained, channels = network.get_submodule(find_head(network, len(task.classes))), None
    else:
        data = open_data(task, shards, device)
        trained, channels = network, (data.preprocessing.mean, data.preprocessing.std)
    about = _metadata(task, network, data.preprocessing) | {
        "bad_images": json.dumps(sorted((bad.image_id, bad.reason) for bad in data.bad))
    }
    epoch_checkpoint = EpochCheckpoint(
        task.progress,
        data.judge,
        task.stopping.patience if task.stopping else None,
        num_judged=data.num_judged,
        keep_best=task.stopping is None or task.stopping.keep_best,
        every_s=task.checkpoint_s,
        on_epoch=partial(_take_snapshot, task, about),
    )
    is_soft = task.recipe.soft_labels is not None
    log = fit(
        trained,
        data.batches,
        data.label_range,
        task.recipe.for_soft_labels() if is_soft else task.recipe,
        channels,
        task.augmentation_seed,
        on_epoch=on_epoch,
        checkpoint=epoch_checkpoint,
        num_classes=len(task.classes),
        order_seed=task.order_seed,
    )
    network.eval()
    epochs, best_epoch = len(log.epochs), epoch_checkpoint.best_epoch
    write_atomic(task.curve, json.dumps([asdict(epoch) for epoch in log.epochs]))
    if log.average is not None:
        average = log.average.module.to(memory_format=torch.contiguous_format)
        checkpoint.save(average, task.extras["#ema"], about | _after(epochs, epochs))
    best_epoch = epochs if best_epoch is None else best_epoch
    checkpoint.save(network, task.checkpoint, about | _after(epochs, best_epoch))
    epoch_checkpoint.forget()
    return task.checkpoint


def _take_snapshot(task: TrainTask, about: dict[str, str], epochs: int, network: nn.Module) -> None:
    """Keep the weights of an epoch that the recipe wants as a member of its own."""
    if epochs in task.recipe.snapshot_epochs:
        name = f"#{task.recipe.snapshot_epochs.index(epochs) + 1}"
        checkpoint.save(network, task.extras[name], about | _after(epochs, epochs))


def _after(epochs: int, best_epoch: int) -> dict[str, str]:
    return {"epochs": str(epochs), "best_epoch": str(best_epoch)}


def _metadata(task: TrainTask, network: nn.Module, preprocessing: Preprocessing) -> dict[str, str]:
    # A network whose outputs are no logits has the same outputs when it is fine-tuned.
    scores = scores_of_start(task)
    return ({} if scores == "logits" else {"scores": scores}) | {
        "architecture": task.architecture,
        "classes": json.dumps(task.classes),
        "head": find_head(network, len(task.classes)),
        "parameters": str(sum(parameter.numel() for parameter in network.parameters())),
        "preprocessing": preprocessing.model_dump_json(),
        "seed": str(task.seed),
        "task": task.key,
    }
