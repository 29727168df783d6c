"""An artifact of two untrained members, and digits as files to answer with it."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ensemble.artifact import write
from ensemble.artifact.about import About, Origin
from ensemble.artifact.golden import Golden
from ensemble.cascade.steps import Steps
from ensemble.checkpoints.load import load_member
from ensemble.evaluation.conformal import ConformalSets
from ensemble.images.open import decode_shard
from ensemble.images.settings import DigitsConfig, SplitConfig
from ensemble.images.shard import plan_shards
from ensemble.images.sources.digits import open_source
from ensemble.images.split import split
from ensemble.outranking.weighting import Weighting
from ensemble.predictor import load
from ensemble.training.member import train_member
from ensemble.training.recipe import RecipeConfig
from ensemble.training.task import TrainTask
from ensemble.views.settings import CenterView, FlipViews

ARCHITECTURES = ("alexnet_small", "mobilenet_v2_small")
CLASSES = tuple(f"digit {number}" for number in range(10))


def make_artifact(folder: Path, cascade: Steps | None = None) -> Path:
    """Make an artifact with golden inputs, whose members have their initial weights."""
    source = open_source(DigitsConfig())
    index = source.index()
    images = split(index, SplitConfig(train=60, search=60, test=60), seed=0).train
    shards = [decode_shard(source, spec) for spec in plan_shards(images.image_ids.tolist(), 60)]
    recipe, views = RecipeConfig(epochs=0), (CenterView(), FlipViews())
    members = []
    for seed, (name, view) in enumerate(zip(ARCHITECTURES, views, strict=True)):
        task = TrainTask(name, name, recipe, seed, images, tuple(range(10)), folder / "cache")
        checkpoint = train_member(task, shards, torch.device("cpu"))
        members.append(load_member(name, checkpoint, view, index.sha256))
    weighting, origins = (
        Weighting(np.array([60, 40])),
        {n: Origin("test", "mine") for n in ARCHITECTURES},
    )
    place = folder / "ensemble"
    write.save(
        place, members, weighting, CLASSES, "paper", about=About(origins=origins), cascade=cascade
    )
    pixels = tuple(list(shards[0].images())[:8])
    found = load(place, equal_bits=True).predict(pixels)
    golden = Golden(pixels, found.probabilities, found.answers, 1e-3)
    write.save(
        place,
        members,
        weighting,
        CLASSES,
        "paper",
        about=About(origins=origins, golden=golden),
        cascade=cascade,
        conformal=ConformalSets(0.9, 0.5, 60) if cascade else None,
    )
    return place


def write_digits(folder: Path, count: int) -> list[str]:
    """Write digits as PNG files in two folders, and one file that is no image; return the ids."""
    source = open_source(DigitsConfig())
    names = []
    for number, image_id in enumerate(source.index().image_ids[:count].tolist()):
        name = f"{'ab'[number % 2]}/{number:05d}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(source.decode(image_id)).save(folder / name)
        names.append(name)
    (folder / "a" / "bad.jpg").write_bytes(b"no image")
    return [*names, "a/bad.jpg"]
