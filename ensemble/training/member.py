"""Carry out a training task: from decoded shards to a checkpoint with weights, preprocessing and metadata."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import nn
from torch.nn import functional

from ensemble.checkpoints import file as checkpoint
from ensemble.errors import EmptySplitError
from ensemble.images.index import ImageIndex
from ensemble.images.shard import ImageShard
from ensemble.inference.resized import without_strips
from ensemble.inference.transforms import normalise_, to_input
from ensemble.members.settings import Preprocessing
from ensemble.models.heads import find_head
from ensemble.training.epoch_checkpoint import EpochCheckpoint
from ensemble.training.loop import train
from ensemble.training.start import build_start, scores_of_start
from ensemble.training.task import TrainTask
from ensemble.training.training_images import Pixels, to_float

_SMALLEST_STD = 1e-3
_JUDGE_BATCH_IMAGES = 256


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
    if task.preprocessing is not None:
        shards = [without_strips(shard, task.preprocessing) for shard in shards]
    images, labels = _select(task, task.images, shards)
    if not len(images):
        raise EmptySplitError(f"{task.name} has no image to train on that could be decoded.")
    preprocessing = task.preprocessing or _measure(to_float(images))
    network = build_start(task).to(device)
    epoch_checkpoint = EpochCheckpoint(task.progress)
    if task.stopping is not None:
        others = _select(task, task.stopping.images, shards)
        if len(others[0]):
            judge = partial(_judge, *others, preprocessing, device)
            epoch_checkpoint = EpochCheckpoint(task.progress, judge, task.stopping.patience)
    log = train(
        network,
        images,
        labels,
        task.recipe,
        preprocessing.mean,
        preprocessing.std,
        task.seed,
        checkpoint=epoch_checkpoint,
    )
    epochs, best_epoch = len(log.epochs), epoch_checkpoint.best_epoch
    metadata = _metadata(task, network, preprocessing) | {
        "epochs": str(epochs),
        "best_epoch": str(epochs if best_epoch is None else best_epoch),
    }
    task_ids = set(task.images.image_ids.tolist())
    metadata["bad_images"] = json.dumps(
        sorted(
            (bad.image_id, bad.reason)
            for shard in shards
            for bad in shard.bad
            if bad.image_id in task_ids
        )
    )
    checkpoint.save(network, task.checkpoint, metadata)
    epoch_checkpoint.forget()
    return task.checkpoint


def _select(
    task: TrainTask, index: ImageIndex, shards: Sequence[ImageShard]
) -> tuple[Pixels, Int64[torch.Tensor, " image"]]:
    label_by_id = dict(zip(index.image_ids.tolist(), index.labels.tolist(), strict=True))
    output_by_label = {label: output for output, label in enumerate(task.classes)}
    pixels_by_id = {
        str(image_id): pixels
        for shard in shards
        for image_id, pixels in zip(shard.image_ids, shard.images(), strict=True)
        if image_id in label_by_id
    }
    # In the order of ids, so that neither the size nor the order of shards changes the weights.
    image_ids = sorted(pixels_by_id)
    images = _resize(task, [pixels_by_id[image_id] for image_id in image_ids])
    labels = [output_by_label[label_by_id[image_id]] for image_id in image_ids]
    return images, torch.tensor(labels, dtype=torch.int64)


def _resize(task: TrainTask, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> Pixels:
    """Resize images to the input of the task's network; they stay uint8 where all have its size already."""
    to = task.preprocessing
    size, resize = (to.size, to.resize) if to else (task.recipe.input_size, None)
    has_size = all(image.shape[:2] == (size, size) for image in images)
    if images and has_size and resize in (None, size):
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    shard = ImageShard.pack([str(row) for row in range(len(images))], images)
    return to_input([shard], size, resize, to.interpolation if to else "bilinear")


def _judge(
    images: Pixels,
    labels: Int64[torch.Tensor, " image"],
    preprocessing: Preprocessing,
    device: torch.device,
    network: nn.Module,
) -> tuple[int, float]:
    """Count the top-1 errors, and compute the mean loss in nats."""
    network.eval()
    # Added up on the device, so that a GPU is waited for once and not at every batch.
    errors = torch.zeros((), dtype=torch.int64, device=device)
    loss = torch.zeros((), dtype=torch.float64, device=device)
    with torch.inference_mode():
        for batch, targets in zip(
            torch.split(images, _JUDGE_BATCH_IMAGES),
            torch.split(labels, _JUDGE_BATCH_IMAGES),
            strict=True,
        ):
            logits = network(normalise_(to_float(batch.to(device, copy=True)), preprocessing))
            targets = targets.to(device)
            errors += (logits.argmax(dim=1) != targets).sum()
            loss += functional.cross_entropy(logits, targets, reduction="sum")
    return int(errors), float(loss) / len(images)


def _measure(images: Float[torch.Tensor, "image 3 size size"]) -> Preprocessing:
    mean = images.mean(dim=(0, 2, 3)).tolist()
    std = images.std(dim=(0, 2, 3)).clamp_min(_SMALLEST_STD).tolist()
    rounded_mean, rounded_std = ([round(value, 4) for value in part] for part in (mean, std))
    return Preprocessing(size=images.shape[-1], mean=tuple(rounded_mean), std=tuple(rounded_std))


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
