"""Carry out a training task: from decoded shards to a checkpoint with weights, preprocessing and metadata."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from ensemble.checkpoints import file as checkpoint
from ensemble.images.shard import ImageShard
from ensemble.members.settings import Preprocessing
from ensemble.models.heads import find_head
from ensemble.training.data import open_data
from ensemble.training.epoch_checkpoint import EpochCheckpoint
from ensemble.training.loop import fit
from ensemble.training.start import build_start, scores_of_start
from ensemble.training.task import TrainTask


def train_member(task: TrainTask, shards: Sequence[ImageShard], device: torch.device) -> Path:
    """Train on the task's images and publish the checkpoint; go on where an earlier attempt stopped.

    Args:
        task: The task, which names network, recipe and images.
        shards: Decoded images, among them all of the task's; the others are ignored.
        device: Device to train on.

    Raises:
        EmptySplitError: None of the task's images could be decoded.
    """
    if task.checkpoint.exists():
        return task.checkpoint  # trained by another process meanwhile
    data = open_data(task, shards, device)
    network = build_start(task).to(device)
    epoch_checkpoint = EpochCheckpoint(
        task.progress, data.judge, task.stopping.patience if task.stopping else 1
    )
    log = fit(
        network,
        data.batches,
        data.label_range,
        task.recipe,
        data.preprocessing.mean,
        data.preprocessing.std,
        task.seed,
        checkpoint=epoch_checkpoint,
    )
    epochs, best_epoch = len(log.epochs), epoch_checkpoint.best_epoch
    metadata = _metadata(task, network, data.preprocessing) | {
        "epochs": str(epochs),
        "best_epoch": str(epochs if best_epoch is None else best_epoch),
        "bad_images": json.dumps(sorted((bad.image_id, bad.reason) for bad in data.bad)),
    }
    checkpoint.save(network, task.checkpoint, metadata)
    epoch_checkpoint.forget()
    return task.checkpoint


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
