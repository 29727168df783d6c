"""What a network makes of each image before its head: computed once and kept, so that a head is trained in seconds."""

import json
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float, Int64
from torch import nn
from torch.nn import functional

from ensemble.checkpoints import file as checkpoint
from ensemble.checkpoints.header import is_whole
from ensemble.errors import CheckpointError
from ensemble.images.index import ImageIndex
from ensemble.images.shard import BadImage, ImageShard
from ensemble.inference.transforms import normalise_
from ensemble.members.identity import fingerprint, library_versions
from ensemble.members.settings import Preprocessing
from ensemble.models.heads import find_head
from ensemble.training.data import TrainingData, open_images
from ensemble.training.task import TrainTask, code_sha256
from ensemble.training.training_images import Batch

Rows = Float[torch.Tensor, "image feature"]


class FeatureBatches:
    """Rows of features and their labels, drawn batch after batch.

    Args:
        rows: Features of each image, on the device.
        labels: Class index of each image, on the device.
    """

    def __init__(self, rows: Rows, labels: Int64[torch.Tensor, " image"]) -> None:
        self._rows, self._labels = rows, labels

    def num_steps(self, batch_size: int) -> int:
        """Return the number of batches in an epoch; a last batch of one row is left out, as one of one image is."""
        return len(self._rows) // batch_size + (len(self._rows) % batch_size > 1)

    def batches(
        self,
        batch_size: int,
        generator: torch.Generator,
        first_step: int = 0,
        order_generator: torch.Generator | None = None,
    ) -> Iterator[Batch]:
        """Draw an order of all rows, and yield batch after batch."""
        order = torch.randperm(len(self._rows), generator=order_generator or generator).to(
            self._rows.device
        )
        for step in range(first_step, self.num_steps(batch_size)):
            rows = order[step * batch_size : (step + 1) * batch_size]
            yield self._rows[rows], self._labels[rows]


def open_features(
    task: TrainTask, network: nn.Module, shards: Sequence[ImageShard], device: torch.device
) -> TrainingData:
    """Open the features of a task's images, and of those that it is stopped by; compute what is not kept.

    Args:
        task: The task, which has weights to start from.
        network: Its network with these weights.
        shards: Decoded images, as for `open_data`.
        device: Device to compute on.

    Raises:
        CheckpointError: The network has no linear head over a row of features for each image.
        EmptySplitError: None of the task's images could be decoded.
    """
    assert (
        task.preprocessing is not None
    )  # the settings refuse a head alone without weights to start from
    rows, labels, bad = _features(task, task.images, network, shards, device)
    judge = None
    if task.stopping is not None:
        others, their_labels, _ = _features(task, task.stopping.images, network, shards, device)
        judge = _judge_on(others, their_labels)
    return TrainingData(
        FeatureBatches(rows, labels),
        (int(labels.min()), int(labels.max())),
        task.preprocessing,
        bad,
        judge,
        len(task.stopping.images) if task.stopping else 0,
    )


def _features(
    task: TrainTask,
    index: ImageIndex,
    network: nn.Module,
    shards: Sequence[ImageShard],
    device: torch.device,
) -> tuple[Rows, Int64[torch.Tensor, " image"], tuple[BadImage, ...]]:
    path = task.folder / f"features-{_key(task, index)[:24]}.safetensors"
    if path.is_file() and is_whole(path):
        kept, about = checkpoint.load(path)
        bad = tuple(BadImage(*pair) for pair in json.loads(about["bad"]))
        return kept["rows"].to(device), kept["labels"].to(device), bad
    preprocessing = task.preprocessing
    assert preprocessing is not None
    images = open_images(task, index, preprocessing, shards, device)
    compute = feature_function(network, len(task.classes))
    rows, labels = list[torch.Tensor](), list[torch.Tensor]()
    for batch, targets in images.in_turn():
        rows.append(compute(batch, preprocessing))
        labels.append(targets)
    features = {"rows": torch.cat(rows), "labels": torch.cat(labels)}
    pairs = [(one.image_id, one.reason) for one in images.bad]
    checkpoint.save_weights(features, path, {"bad": json.dumps(pairs)})
    return features["rows"], features["labels"], images.bad


def feature_function(
    network: nn.Module, num_classes: int
) -> Callable[[torch.Tensor, Preprocessing], Rows]:
    """Make the function from images in [0, 1] to what the network's head is given.

    Raises:
        CheckpointError: The network has no linear head, or (when called) not a row for each image.
    """
    name = find_head(network, num_classes)
    head = network.get_submodule(name)
    if not isinstance(head, nn.Linear):
        raise CheckpointError(
            f"the head {name} is {type(head).__name__}; head_only needs a linear layer. Set head_only=false."
        )
    parent = network.get_submodule(name.rpartition(".")[0])
    # Its output is its input. Some networks read the weights of their head in place of calling it.
    identity = nn.Linear(head.in_features, head.in_features, device=head.weight.device)
    with torch.no_grad():
        identity.weight.copy_(torch.eye(head.in_features))
        identity.bias.zero_()
    caught: list[torch.Tensor] = []
    identity.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0].detach()))

    def compute(images: torch.Tensor, preprocessing: Preprocessing) -> Rows:
        caught.clear()
        setattr(parent, name.rpartition(".")[2], identity)
        try:
            with torch.no_grad():
                outputs: torch.Tensor = network.eval()(normalise_(images, preprocessing))
        finally:
            setattr(parent, name.rpartition(".")[2], head)
        rows = caught[0] if caught else outputs
        if rows.shape != (len(images), head.in_features):
            raise CheckpointError(
                f"the head {name} is given {list(rows.shape)}, and not a row for each image; set "
                "head_only=false."
            )
        return rows.float()

    return compute


def _key(task: TrainTask, index: ImageIndex) -> str:
    start = task.start.identity if task.start else task.base and task.base.identity
    return fingerprint(
        {
            "architecture": task.architecture,
            "start": start,
            # A fresh layer below the head differs by the seed.
            "seed": task.start_seed if task.start and task.start.take else None,
            "images": index.sha256,
            "classes": list(task.classes),
            "code": code_sha256(),
            "libraries": library_versions(task.architecture),
        }
    )


def _judge_on(
    rows: Rows, labels: Int64[torch.Tensor, " image"]
) -> Callable[[nn.Module], tuple[int, float]]:
    def judge(head: nn.Module) -> tuple[int, float]:
        with torch.inference_mode():
            logits = head(rows)
            errors = (logits.argmax(dim=1) != labels).sum()
            return int(errors), float(functional.cross_entropy(logits, labels))

    return judge
