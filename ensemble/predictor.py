"""The predictor: an artifact with its networks loaded, which answers images."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from ensemble.artifact.read import Artifact, fetch, read
from ensemble.config import S3_SCHEME
from ensemble.errors import ShapeError
from ensemble.evaluation import metrics
from ensemble.evaluation.calibration import apply_temperature, at_temperature
from ensemble.images.shard import ImageShard
from ensemble.members.member import Member
from ensemble.storage.fetch import FetchedFolder
from ensemble.storage.settings import S3Config
from ensemble.subclassifiers.route import (
    FittedRouting,
    answer,
    is_routed,
    is_routed_to,
    rank_scores,
)

Images = UInt8[np.ndarray, "image height width 3"] | Sequence[np.ndarray]


@dataclass(frozen=True)
class Prediction:
    """The answers of an ensemble for some images.

    Attributes:
        probabilities: Probability of each class, at the temperature that the run fitted.
        answers: Class index; of a routed image the sub-classifier's.
        routed: Whether a sub-classifier answered.
    """

    probabilities: Float[np.ndarray, "image class"]
    answers: Int[np.ndarray, "image"]
    routed: Bool[np.ndarray, "image"]


def load(
    folder: Path | str,
    storage: S3Config | None = None,
    *,
    trust_code: bool = False,
    without: str | None = None,
) -> "Predictor":
    """Load an artifact; every file is checked against its SHA-256.

    Args:
        folder: The `ensemble` folder of a run, or its place as s3://bucket/prefix. An artifact on S3
            is copied to a temporary folder, which lives as long as the predictor.
        storage: How S3 is reached.
        trust_code: Accept members that run code of their own: factories and .pt2 programs.
        without: Name of a member whose file is lost. The file is not read, and the others get the
            weights that were fitted for this loss.

    Raises:
        UnknownNameError: No member has the name `without`.
        CheckpointError: The folder is not an artifact, a file in it is missing or changed, or there
            are no weights for the loss of the member.
        ConfigError: The store is missing, or refuses access.
    """
    if not str(folder).startswith(S3_SCHEME):
        return Predictor(read(Path(folder), trust_code=trust_code, without=without))
    local = fetch(str(folder), storage or S3Config(), without)
    return Predictor(read(local.path, trust_code=trust_code, without=without), local)


class Predictor:
    """An ensemble that is ready to predict; `load` makes one.

    Args:
        artifact: The ensemble.
        local: Copy of an artifact on S3; it stays on disk as long as the predictor.
    """

    def __init__(self, artifact: Artifact, local: FetchedFolder | None = None) -> None:
        # Here, because torch takes seconds to import.
        from ensemble.checkpoints.load import load_network
        from ensemble.inference.forward import PreparedNetwork

        self._artifact = artifact
        self._local = local
        routing = artifact.routing
        members = (*artifact.members, *(routing.subclassifiers.values() if routing else ()))
        # By weights: where views are kept, several members are one network.
        distinct = {(member.weights_sha256, member.precision): member for member in members}
        self._networks = {
            key: PreparedNetwork(load_network(member), member.precision).eval()
            for key, member in distinct.items()
        }

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, by class index."""
        return self._artifact.classes

    @property
    def members(self) -> tuple[Member, ...]:
        """Members with a weight."""
        return self._artifact.members

    def predict(self, images: Images) -> Prediction:
        """Predict RGB images, uint8, each `[height, width, 3]`; their sizes may differ.

        Raises:
            ShapeError: An image is not uint8 RGB.
        """
        for i, image in enumerate(images):
            is_rgb = image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
            if not is_rgb or not image.size:
                raise ShapeError(
                    f"image {i} is {image.dtype} {list(image.shape)}; expected uint8 "
                    "[height, width, 3] in RGB."
                )
        artifact = self._artifact
        base = metrics.average(self._log_probabilities(artifact.members, images), artifact.units)
        if artifact.routing is not None:
            return self._route(base, images, artifact.routing)
        probabilities = at_temperature(base, artifact.temperature)
        return Prediction(probabilities, base.argmax(axis=1), np.zeros(len(base), bool))

    def without(self, name: str) -> "Predictor":
        """Leave a member out, and give the others the weights that were fitted for its loss.

        The gate to the sub-classifiers, if there is one, and the temperature stay as fitted.

        Raises:
            UnknownNameError: No member has this name.
            CheckpointError: The artifact has no weights for the loss of this member.
        """
        other = copy(self)
        other._artifact = self._artifact.without(name)
        return other

    def _route(
        self,
        base: Float[np.ndarray, "image class"],
        images: Images,
        fitted: FittedRouting,
    ) -> Prediction:
        routing, subs = fitted.routing, {}
        routed, routed_to = is_routed(base, routing), is_routed_to(base, routing)
        for number, member in fitted.subclassifiers.items():
            # Only the images that are routed to it; the answer does not depend on the other rows.
            rows = np.flatnonzero(routed_to[:, number])
            subs[number] = np.zeros((len(base), len(member.classes)))
            if len(rows):
                (logs,) = self._log_probabilities([member], [images[i] for i in rows.tolist()])
                subs[number][rows] = np.exp(logs.astype(np.float64))
        return Prediction(
            at_temperature(answer(base, subs, routing, routed), self._artifact.temperature),
            rank_scores(base, subs, routing, routed).argmax(axis=1),
            routed,
        )

    def _log_probabilities(
        self,
        members: Sequence[Member],
        images: Images,
    ) -> list[Float[np.ndarray, "image class"]]:
        """Predict with several members; images are resized once for all of them."""
        import torch

        from ensemble.inference.predict import predict
        from ensemble.inference.resized import ResizedShard

        cpu = torch.device("cpu")
        shard = ImageShard.pack([str(i) for i in range(len(images))], list(images))
        resized = ResizedShard(shard, cpu)
        networks = [self._networks[member.weights_sha256, member.precision] for member in members]
        blocks = [
            predict(network, member, shard, cpu, resized)
            for network, member in zip(networks, members, strict=True)
        ]
        return [
            apply_temperature(block.log_probabilities, member.temperature)
            for block, member in zip(blocks, members, strict=True)
        ]
