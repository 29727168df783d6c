"""`ensemble cascade --measure`: the wall time of a saved cascade, beside what its steps were priced at.

A step does not cost its member's mean seconds times its images: a batch of few images takes longer for each, and
each step resizes and gathers what is left. So each step is priced by measuring its member alone on batches of several
sizes, and reading off what as many images as reach the step take.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ensemble.artifact.read import Artifact, read
from ensemble.cascade.steps import with_lead
from ensemble.images.index import ImageIndex
from ensemble.images.open import Decoder, decode_shard
from ensemble.images.shard import ImageShard, plan_shards
from ensemble.inference.kept_memory import keep_freed_memory
from ensemble.members.member import Member
from ensemble.outranking.weighting import Weighting
from ensemble.predictor import Predictor
from ensemble.report.documents.cascade import CascadeSeconds

_IMAGES, _ROUNDS = 512, 3

Curve = Mapping[int, float]
"""Seconds of one call, by its number of images."""


def measure_cascade(
    folder: Path, source: Decoder, images: ImageIndex, shard_images: int
) -> CascadeSeconds:
    """Measure a saved cascade on the CPU: the quickest of some rounds, in each of which all take their turn.

    Args:
        folder: The artifact.
        source: Where the images are.
        images: Images of which the first 512 are answered.
        shard_images: Images that are answered together.
    """
    keep_freed_memory()  # as the workers of `ensemble predict` do
    artifact = read(folder)
    assert artifact.cascade is not None
    ids = images.image_ids[:_IMAGES].tolist()
    shards = [decode_shard(source, spec) for spec in plan_shards(ids, shard_images)]
    cascade = Predictor(artifact)
    whole = cascade.without_cascade()
    members = with_lead(artifact.members, artifact.lead)
    steps = [Predictor(_only(artifact, members[index])) for index in artifact.cascade.order]
    parts = [_first(max(shards, key=len), size) for size in _sizes(max(map(len, shards)))]
    calls = [
        *((cascade, shard) for shard in shards),
        *((whole, shard) for shard in shards),
        *((step, part) for step in steps for part in parts),
    ]
    for predictor, shard in calls:
        predictor.predict_shard(shard)  # warms up
    # What else the machine does only adds to the time.
    seconds = np.min([[_seconds(*call) for call in calls] for _ in range(_ROUNDS)], axis=0)
    cascade_s, whole_s, steps_s = np.split(seconds, [len(shards), 2 * len(shards)])
    curves: list[Curve] = [
        {len(part): value for part, value in zip(parts, row, strict=True)}
        for row in steps_s.reshape(len(steps), len(parts)).tolist()
    ]
    exits = [_exits(cascade, shard) for shard in shards]
    n = sum(map(len, exits))
    return CascadeSeconds(
        images=n,
        ensemble=float(whole_s.sum()) / n,
        predicted=sum(price(curves, each) for each in exits) / n,
        measured=float(cascade_s.sum()) / n,
    )


def price(curves: Sequence[Curve], exits: np.ndarray) -> float:
    """Give the seconds that the steps of a cascade take for the images of one call.

    Args:
        curves: For each step, the seconds of its member alone, by the number of images; between two numbers, and
            below the least, they lie on a line.
        exits: The step after which each image stops, from 1.
    """
    total = 0.0
    for step, curve in enumerate(curves):
        sizes = [0, *sorted(curve)]
        reached = int((exits > step).sum())
        total += float(np.interp(reached, sizes, [0.0, *(curve[size] for size in sizes[1:])]))
    return total


def _sizes(most: int) -> list[int]:
    """List powers of 2 below a number of images, and the number."""
    return [*(1 << power for power in range((most - 1).bit_length())), most]


def _first(shard: ImageShard, size: int) -> ImageShard:
    return ImageShard.pack(shard.image_ids[:size].tolist(), list(shard.images())[:size])


def _only(artifact: Artifact, member: Member) -> Artifact:
    weighting = Weighting(np.array([1]))
    return replace(artifact, members=(member,), weighting=weighting, cascade=None, lead=None)


def _seconds(predictor: Predictor, shard: ImageShard) -> float:
    began = time.perf_counter()
    predictor.predict_shard(shard)
    return time.perf_counter() - began


def _exits(cascade: Predictor, shard: ImageShard) -> np.ndarray:
    exits = cascade.predict_shard(shard)[1].exits
    assert exits is not None
    return exits
