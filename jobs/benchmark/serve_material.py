"""What `benchmark serve` and `bulk` answer with and answer: untrained networks, and a made-up photograph."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ensemble.artifact import write
from ensemble.checkpoints.load import load_member
from ensemble.images.open import decode_shard, open_source
from ensemble.images.settings import DigitsConfig
from ensemble.images.shard import plan_shards
from ensemble.outranking.weighting import Weighting
from ensemble.training.member import train_member
from ensemble.training.recipe import RecipeConfig
from ensemble.training.task import TrainTask
from ensemble.views.settings import CenterView

ARCHITECTURES = ("resnet14_small", "mobilenet_v2_small", "wide_resnet10_2")
_SIDE = 256


def make_artifact(
    folder: Path, architectures: Sequence[str] = ARCHITECTURES, input_size: int = 64
) -> Path:
    """Make an artifact of networks with their initial weights, for the classes of the digits."""
    source = open_source(DigitsConfig())
    images = source.index().take(np.arange(20))
    shards = [decode_shard(source, spec) for spec in plan_shards(images.image_ids.tolist(), 20)]
    recipe, members = RecipeConfig(epochs=0, input_size=input_size), []
    for name in architectures:
        task = TrainTask(name, name, recipe, 0, images, tuple(range(10)), folder / "cache")
        checkpoint = train_member(task, shards, torch.device("cpu"))
        members.append(load_member(name, checkpoint, CenterView(), images.sha256))
    place = folder / "ensemble"
    weighting = Weighting(np.full(len(members), 1))
    write.save(place, members, weighting, images.classes, "uniform")
    return place


def write_photograph(path: Path) -> None:
    """Write a JPEG with as much detail as a photograph has, and no more."""
    coarse = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC).save(path, quality=90)
