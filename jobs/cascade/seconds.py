"""`ensemble cascade --measure`: the wall time of a saved cascade, beside what its steps take alone."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from ensemble.artifact.read import Artifact, read
from ensemble.cascade.steps import with_lead
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
    members = with_lead(artifact.members, artifact.lead)
    predictors = [
        cascade,
        cascade.without_cascade(),
        *(Predictor(_only(artifact, member)) for member in members),
    ]
    for each in predictors:
        _seconds(each, shards)  # warms up
    rounds = [[_seconds(each, shards) for each in predictors] for _ in range(_ROUNDS)]
    # What else the machine does only adds to the time.
    cascade_s, ensemble_s, *member_s = np.min(rounds, axis=0).tolist()
    exits = np.concatenate([_exits(cascade, shard) for shard in shards])
    shares = [float((exits > step).mean()) for step in range(len(members))]
    steps_s = sum(
        share * member_s[member]
        for share, member in zip(shares, artifact.cascade.order, strict=True)
    )
    n = len(exits)
    return CascadeSeconds(
        images=n, ensemble=ensemble_s / n, predicted=steps_s / n, measured=cascade_s / n
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
