"""`ensemble cascade --measure`: the wall time of a saved cascade, beside what its steps take alone."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from ensemble.artifact.read import Artifact, read
from ensemble.images.index import ImageIndex
from ensemble.images.open import Decoder, decode_shard
from ensemble.images.shard import ImageShard, plan_shards
from ensemble.members.member import Member
from ensemble.outranking.weighting import Weighting
from ensemble.predictor import Predictor
from ensemble.report.documents.cascade import CascadeSeconds

_IMAGES, _ROUNDS = 512, 3


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
    artifact = read(folder)
    assert artifact.cascade is not None
    ids = images.image_ids[:_IMAGES].tolist()
    shards = [decode_shard(source, spec) for spec in plan_shards(ids, shard_images)]
    cascade = Predictor(artifact)
    members = (*artifact.members, *((artifact.lead,) if artifact.lead else ()))
    alone = [Predictor(_only(artifact, member)) for member in members]
    everyone = [cascade, cascade.without_cascade(), *alone]
    times = np.array([[_seconds(each, shards) for each in everyone] for _ in range(_ROUNDS + 1)])[
        1:
    ]  # the first round also warms up
    # What else the machine does only adds to the time.
    quickest = times.min(axis=0).tolist()
    exits = np.concatenate([_exits(cascade, shard) for shard in shards])
    reaching = [float((exits > step).mean()) for step in range(len(members))]
    predicted = sum(
        share * quickest[2 + member]
        for share, member in zip(reaching, artifact.cascade.order, strict=True)
    )
    n = len(exits)
    return CascadeSeconds(
        images=n,
        ensemble=quickest[1] / n,
        predicted=predicted / n,
        measured=quickest[0] / n,
    )


def _only(artifact: Artifact, member: Member) -> Artifact:
    weighting = Weighting(np.array([1]))
    return replace(artifact, members=(member,), weighting=weighting, cascade=None, lead=None)


def _seconds(predictor: Predictor, shards: list[ImageShard]) -> float:
    began = time.perf_counter()
    for shard in shards:
        predictor.predict_shard(shard)
    return time.perf_counter() - began


def _exits(cascade: Predictor, shard: ImageShard) -> np.ndarray:
    exits = cascade.predict_shard(shard)[1].exits
    assert exits is not None
    return exits
