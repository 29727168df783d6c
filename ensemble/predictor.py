"""The artifact: an ensemble as a folder that predicts without the run that made it.

`ensemble.json` says what the folder holds; weights are safetensors beside it, each with its sha256.
Nothing in it is pickled.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from ensemble.artifact.document import weights_without
from ensemble.artifact.read import _DOCUMENT, _load_member, _load_routing, _read_document
from ensemble.config import S3_SCHEME
from ensemble.errors import ShapeError
from ensemble.evaluation import metrics
from ensemble.evaluation.calibration import apply_temperature, at_temperature
from ensemble.images.shard import ImageShard
from ensemble.members.member import Member
from ensemble.storage.fetch import FetchedFolder
from ensemble.storage.settings import S3Config
from ensemble.subclassifiers.route import FittedRouting, answer, is_asked, is_routed, rank_scores


@dataclass(frozen=True)
class Prediction:
    """What an ensemble says of some images.

    Attributes:
        probabilities: Of each class, at the temperature that the run found.
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
    """Load an artifact; every file is checked against its sha256.

    Args:
        folder: The `ensemble` folder of a run, or s3://bucket/prefix of one; that is copied to a
            temporary folder, which lives as long as the predictor.
        storage: How S3 is reached.
        trust_code: Accept members that run code of their own: factories and .pt2 programs.
        without: A member whose file is lost: it is not read, and the weights found for its loss hold.

    Raises:
        UnknownNameError: There is no such member.
        CheckpointError: The folder is not an artifact, a file in it is missing or changed, or there
            are no weights for the loss.
        ConfigError: The store is not there, or refuses.
    """
    if not str(folder).startswith(S3_SCHEME):
        return _load(Path(folder), trust_code, without)
    fetched = FetchedFolder(str(folder), storage or S3Config())
    fetched.fetch(_DOCUMENT)
    for file in _read_document(fetched.path, without).files:
        fetched.fetch(file)
    predictor = _load(fetched.path, trust_code, without)
    predictor._copy = fetched
    return predictor


def _load(folder: Path, trust_code: bool, without: str | None) -> "Predictor":
    document = _read_document(folder, without)
    outputs = tuple(range(len(document.classes)))
    loaded = (
        _load_member(folder, entry.name, entry, outputs, document.data_sha256, trust_code)
        for entry in document.members
    )
    members = tuple(
        replace(member, temperature=entry.temperature)
        for member, entry in zip(loaded, document.members, strict=True)
    )
    units = np.array([entry.weight_units for entry in document.members])
    routing = _load_routing(folder, document, units, trust_code) if document.routing else None
    fallbacks = {fallback.missing: fallback.weight_units for fallback in document.fallbacks}
    return Predictor(document.classes, members, units, routing, fallbacks, document.temperature)


class Predictor:
    """An ensemble that is ready to predict. Use `load`."""

    def __init__(
        self,
        classes: tuple[str, ...],
        members: tuple[Member, ...],
        units: Int[np.ndarray, "member"],
        routing: FittedRouting | None,
        fallbacks: Mapping[str, Mapping[str, int]] = MappingProxyType({}),
        temperature: float = 1.0,
    ) -> None:
        from ensemble.checkpoints.load import load_network
        from ensemble.inference.forward import PreparedNetwork

        self.classes = classes
        self.members = members
        self._units = units
        self._routing = routing
        self._fallbacks = fallbacks
        self._temperature = temperature
        # Keeps a downloaded artifact on disk for as long as anybody may look at its members.
        self._copy: object = None
        everyone = (*members, *(routing.subclassifiers.values() if routing else ()))
        # By weights: where views are kept, several members are one network.
        distinct = {(member.weights_sha256, member.precision): member for member in everyone}
        self._networks = {
            key: PreparedNetwork(load_network(member), member.precision).eval()
            for key, member in distinct.items()
        }

    def predict(
        self, images: UInt8[np.ndarray, "image height width 3"] | Sequence[np.ndarray]
    ) -> Prediction:
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
        base = metrics.average(self._rows(self.members, images), self._units)
        if self._routing is None:
            probabilities = at_temperature(base, self._temperature)
            return Prediction(probabilities, base.argmax(axis=1), np.zeros(len(base), bool))
        return self._route(base, images, self._routing)

    def without(self, name: str) -> "Predictor":
        """Give the predictor for the absence of a member, with the weights found for that.

        The gate to the sub-classifiers, if there is one, and the temperature stay as fitted.

        Raises:
            UnknownNameError: There is no such member.
            CheckpointError: The artifact has no weights for its loss.
        """
        names = [member.name for member in self.members]
        weights = weights_without(name, names, self._fallbacks)
        left = copy(self)
        left.members = tuple(member for member in self.members if member.name in weights)
        left._units = np.array([weights[member.name] for member in left.members])
        left._fallbacks = {}
        return left

    def _route(
        self,
        base: Float[np.ndarray, "image class"],
        images: UInt8[np.ndarray, "image height width 3"] | Sequence[np.ndarray],
        fitted: FittedRouting,
    ) -> Prediction:
        routing, subs = fitted.routing, {}
        gate, asked = is_routed(base, routing), is_asked(base, routing)
        for number, member in fitted.subclassifiers.items():
            # Only the images that it has a say in; nobody looks at the other rows.
            rows = np.flatnonzero(asked[:, number])
            subs[number] = np.zeros((len(base), len(member.classes)))
            if len(rows):
                (logs,) = self._rows([member], [images[i] for i in rows.tolist()])
                subs[number][rows] = np.exp(logs.astype(np.float64))
        return Prediction(
            at_temperature(answer(base, subs, routing, gate), self._temperature),
            rank_scores(base, subs, routing, gate).argmax(axis=1),
            gate,
        )

    def _rows(
        self,
        members: Sequence[Member],
        images: UInt8[np.ndarray, "image height width 3"] | Sequence[np.ndarray],
    ) -> list[Float[np.ndarray, "image class"]]:
        """What members say of images that are resized once for all of them."""
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
