"""Real top-k predictions of ImageNet classifiers, as an outranking table of the classes that are listed."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int

from ensemble.errors import ConfigError
from ensemble.outranking.builder import OutrankingBuilder
from ensemble.outranking.table import OutrankingTable

# AlexNet, ResNets of several depths (two of 50 layers), VGG, Inception v3 and Inception-ResNet v2 as
# in the paper's pool; what it has and the dump lacks is filled up with other families.
POOL = (
    "alexnet_pytorch",
    "squeezenet1_0_pytorch",
    "resnet18_pytorch",
    "resnet34_pytorch",
    "resnet50_pytorch",
    "resnet50_keras",
    "resnet152_pytorch",
    "vgg16_pytorch",
    "vgg19_bn_pytorch",
    "densenet201_pytorch",
    "inception_v3_pytorch",
    "inceptionresnetv2_keras",
    "nasnetmobile_keras",
)

# Multiplications of one image as published, in units of 10^9, in the order of the pool.
GIGA_MULTIPLICATIONS = (
    0.71,
    0.82,
    1.81,
    3.66,
    4.09,
    3.86,
    11.5,
    15.5,
    19.6,
    4.29,
    5.71,
    13.2,
    0.56,
)

NUM_CLASSES = 1000

_BLOCK_IMAGES = 1000


def load_table(path: Path) -> OutrankingTable:
    """Build the outranking table of 13 members from top-k lists.

    Raises:
        ConfigError: The file cannot be read, or lacks a member or an array.
    """
    builder = OutrankingBuilder(POOL, 2, ("probabilities", "logs"), NUM_CLASSES)
    for columns, labels in load_windows(path):
        builder.add(columns, labels)
    return builder.finish()


def load_windows(
    path: Path,
) -> list[tuple[list[Float32[np.ndarray, "image slot"]], Int[np.ndarray, " image"]]]:
    """Read top-k lists of 13 members as log-probabilities, 1,000 images at a time.

    The classes that a member does not list share what is missing to 1 evenly. A class that no member
    lists has the same score as every other such class, and never outranks a label that one member
    lists. So for each image only the listed classes and the label are kept, in class order: the
    errors are those of all 1000 classes.

    Raises:
        ConfigError: The file cannot be read, or lacks a member or an array.
    """
    lists = read_lists(path)
    num_images = len(lists.labels)
    parts = [slice(first, first + _BLOCK_IMAGES) for first in range(0, num_images, _BLOCK_IMAGES)]
    return [
        _slots(lists.classes[:, part], lists.probabilities[:, part], lists.labels[part])
        for part in parts
    ]


@dataclass(frozen=True, eq=False)
class TopKLists:
    """What each member of the pool lists for each image.

    Attributes:
        classes: The most probable classes, the best first.
        probabilities: Their probabilities.
        labels: Label of each image.
    """

    classes: Int[np.ndarray, "member image place"]
    probabilities: Float[np.ndarray, "member image place"]
    labels: Int[np.ndarray, " image"]

    def mean(self, weights: Float[np.ndarray, " member"]) -> Float[np.ndarray, "image class"]:
        """Give the weighted mean of the members' probabilities of all classes.

        The classes that a member does not list share what is missing to 1 evenly.
        """
        rest = self._rest()
        total = np.repeat((weights @ rest)[:, None], NUM_CLASSES, axis=1)
        rows = np.arange(len(self.labels))[:, None]
        for weight, classes, listed, each in zip(
            weights, self.classes, self.probabilities, rest, strict=True
        ):
            if weight:
                total[rows, classes] += weight * (listed - each[:, None])
        return total

    def _rest(self) -> Float[np.ndarray, "member image"]:
        missing = np.maximum(1 - self.probabilities.sum(axis=2), 0)
        return missing / (NUM_CLASSES - self.classes.shape[2])


def read_lists(path: Path) -> TopKLists:
    """Read the top-k lists of the 13 members.

    Raises:
        ConfigError: The file cannot be read, or lacks a member or an array.
    """
    if not zipfile.is_zipfile(path):
        raise _not_lists(path, "it is no .npz file" if path.exists() else "there is no such file")
    try:
        with np.load(path, allow_pickle=False) as file:
            names = [str(name) for name in file["models"]]
            rows = [names.index(name) for name in POOL]
            return TopKLists(
                file["classes"][rows].astype(np.int64),
                file["probabilities"][rows].astype(np.float64),
                file["labels"].astype(np.int64),
            )
    except (OSError, KeyError, ValueError) as error:
        raise _not_lists(path, str(error)) from error


def _not_lists(path: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"{path} does not hold the top-k predictions of {len(POOL)} members ({reason}). Expected an .npz "
        "with models, classes, probabilities and labels."
    )


def _slots(
    classes: Int[np.ndarray, "member image place"],
    probabilities: Float[np.ndarray, "member image place"],
    labels: Int[np.ndarray, " image"],
    num_classes: int = NUM_CLASSES,
) -> tuple[list[Float32[np.ndarray, "image slot"]], Int[np.ndarray, " image"]]:
    """Keep the classes that matter to each image, in class order; give the slot of the label."""
    members, images, places = classes.shape
    listed = np.concatenate(
        [classes.transpose(1, 0, 2).reshape(images, -1), labels[:, None]], axis=1
    )
    listed.sort(axis=1)
    # A class that stands there twice would outrank twice: the second time it is no class at all.
    is_new = np.ones(listed.shape, dtype=np.bool_)
    is_new[:, 1:] = listed[:, 1:] != listed[:, :-1]
    rest = np.maximum(1 - probabilities.sum(axis=2), 0) / (num_classes - places)
    columns = []
    for member in range(members):
        dense = np.repeat(rest[member][:, None], num_classes, axis=1)
        np.put_along_axis(dense, classes[member], probabilities[member], axis=1)
        kept = np.where(is_new, np.take_along_axis(dense, listed, axis=1), 0.0)
        with np.errstate(divide="ignore"):
            columns.append(np.log(kept).astype(np.float32))
    return columns, ((listed == labels[:, None]) & is_new).argmax(axis=1)
