"""From a training task to a checkpoint that is a member: weights, preprocessing, and where the head is."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import nn

from ensemble import models
from ensemble.errors import CheckpointError, EmptySplitError
from ensemble.images.shard import ImageShard
from ensemble.members import Member, Preprocessing
from ensemble.models.heads import find_head, restrict_head
from ensemble.training import checkpoint
from ensemble.training.header import file_sha256
from ensemble.training.loop import train
from ensemble.training.task import TrainTask
from ensemble.views import to_input

_SMALLEST_STD = 1e-3


def train_member(task: TrainTask, shards: Sequence[ImageShard], device: torch.device) -> Path:
    """Train on the task's images and publish the checkpoint.

    Args:
        task: What to train.
        shards: Decoded images; at least all of the task's, others are not looked at.
        device: Where to train.

    Raises:
        EmptySplitError: None of the task's images could be decoded.
    """
    images, labels = _select(task, shards)
    preprocessing = task.base.preprocessing if task.base else _measure(images)
    network = _start(task).to(device)
    train(
        network,
        images.to(device),
        labels.to(device),
        task.recipe,
        preprocessing.mean,
        preprocessing.std,
        task.seed,
    )
    metadata = _metadata(task, network, preprocessing)
    wanted = set(task.images.image_ids.tolist())
    metadata["bad_images"] = json.dumps(
        sorted(
            (bad.image_id, bad.reason)
            for shard in shards
            for bad in shard.bad
            if bad.image_id in wanted
        )
    )
    checkpoint.save(network, task.checkpoint, metadata)
    return task.checkpoint


def load_network(member: Member) -> nn.Module:
    """A member's network with its weights, in evaluation mode.

    Raises:
        CheckpointError: The weights cannot be loaded, or are not those that the member names.
    """
    try:
        found = file_sha256(member.checkpoint)
    except OSError as error:
        raise CheckpointError(
            f"cannot read {member.checkpoint} ({error.strerror}). Every machine must see the folder "
            "that `runs` names."
        ) from error
    if found != member.weights_sha256:
        raise CheckpointError(
            f"{member.checkpoint} of member {member.name!r} has sha256 {found[:16]}…, expected "
            f"{member.weights_sha256[:16]}…. It was replaced or damaged since the run began: run again."
        )
    return checkpoint.load_network(member.checkpoint, member.architecture, len(member.classes))


def _select(
    task: TrainTask, shards: Sequence[ImageShard]
) -> tuple[Float[torch.Tensor, "image 3 size size"], Int[torch.Tensor, "image"]]:
    label_by_id = dict(
        zip(task.images.image_ids.tolist(), task.images.labels.tolist(), strict=True)
    )
    output_by_label = {label: output for output, label in enumerate(task.classes)}
    ids = [str(image_id) for shard in shards for image_id in shard.image_ids]
    rows = {image_id: row for row, image_id in enumerate(ids) if image_id in label_by_id}
    # By id, so that neither the shards' size nor their order changes what is trained.
    chosen = sorted(rows)
    if not chosen:
        raise EmptySplitError(f"{task.name} has no image to train on that could be decoded.")
    given = (
        to_input(shards, task.recipe.input_size) if task.base is None else _as(task.base, shards)
    )
    images = given[[rows[image_id] for image_id in chosen]]
    labels = torch.tensor([output_by_label[label_by_id[image_id]] for image_id in chosen])
    return images, labels


def _as(base: Member, shards: Sequence[ImageShard]) -> Float[torch.Tensor, "image 3 size size"]:
    to = base.preprocessing
    return to_input(shards, to.size, to.resize, to.interpolation)


def _measure(images: Float[torch.Tensor, "image 3 size size"]) -> Preprocessing:
    mean = images.mean(dim=(0, 2, 3)).tolist()
    std = images.std(dim=(0, 2, 3)).clamp_min(_SMALLEST_STD).tolist()
    rounded_mean, rounded_std = ([round(value, 4) for value in part] for part in (mean, std))
    return Preprocessing(size=images.shape[-1], mean=tuple(rounded_mean), std=tuple(rounded_std))


def _start(task: TrainTask) -> nn.Module:
    if task.base is None:
        return models.build(task.architecture, len(task.classes), task.seed)
    outputs = [task.base.classes.index(label) for label in task.classes]
    return restrict_head(load_network(task.base), outputs)


def _metadata(task: TrainTask, network: nn.Module, preprocessing: Preprocessing) -> dict[str, str]:
    return {
        "architecture": task.architecture,
        "classes": json.dumps(task.classes),
        "head": find_head(network, len(task.classes)),
        "parameters": str(sum(parameter.numel() for parameter in network.parameters())),
        "preprocessing": preprocessing.model_dump_json(),
        "seed": str(task.seed),
        "task": task.key,
    }
