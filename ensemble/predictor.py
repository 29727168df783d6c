"""The predictor: an artifact with its networks loaded, which answers images."""

import warnings
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from ensemble.artifact.fetch import fetch
from ensemble.artifact.golden import compare, read_golden
from ensemble.artifact.lost_member import find_lost_member
from ensemble.artifact.read import Artifact, load_unchanged, read
from ensemble.cascade.steps import Steps, follow, with_lead
from ensemble.config import S3_SCHEME
from ensemble.errors import ConfigError, DecodeError
from ensemble.evaluation import metrics
from ensemble.evaluation.calibration import apply_temperature, at_temperature
from ensemble.images.inputs import to_pixels
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
from ensemble.views.policies import weigh_views

if TYPE_CHECKING:
    from torch import nn

    from ensemble.inference.ensemble_module import EnsembleModule


@dataclass(frozen=True)
class Explanation:
    """Why an ensemble answered one image as it did.

    Attributes:
        answer: Name of the class.
        votes: For each member, the class it gives most probability to, and that probability.
        routed: Whether a sub-classifier answered.
        exit_step: The step of a cascade after which the image stopped, from 1; None without a cascade. Members
            of later steps have no vote.
    """

    answer: str
    votes: Mapping[str, tuple[str, float]]
    routed: bool
    exit_step: int | None = None


@dataclass(frozen=True)
class Prediction:
    """The answers of an ensemble for some images.

    Attributes:
        probabilities: Probability of each class, at the temperature that the run fitted.
        answers: Class index; of a routed image the sub-classifier's.
        routed: Whether a sub-classifier answered.
        classes: Class names, by class index.
        by_member: Probabilities of each member, by its name; NaN where an image stopped before the member's step.
        exits: The step of a cascade after which each image stopped, from 1; None without a cascade.
        sets: Classes that hold the label together, with the probability that the artifact states; None where it
            has no conformal sets.
    """

    probabilities: Float[np.ndarray, "image class"]
    answers: Int[np.ndarray, "image"]
    routed: Bool[np.ndarray, "image"]
    classes: tuple[str, ...]
    by_member: Mapping[str, Float[np.ndarray, "image class"]]
    exits: Int[np.ndarray, "image"] | None = None
    sets: Bool[np.ndarray, "image class"] | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of the answer, by image."""
        return tuple(self.classes[answer] for answer in self.answers)

    def top(self, k: int) -> tuple[tuple[tuple[str, float], ...], ...]:
        """Give the k most probable classes of each image with their probabilities, the best first."""
        order = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :k]
        return tuple(
            tuple((self.classes[index], float(row[index])) for index in best)
            for row, best in zip(self.probabilities, order, strict=True)
        )

    def set_of(self, image: int) -> tuple[str, ...] | None:
        """Give the classes of an image's conformal set, by its number, the most probable first; None without sets."""
        if self.sets is None:
            return None
        order = np.argsort(-self.probabilities[image], kind="stable")
        return tuple(self.classes[index] for index in order if self.sets[image, index])

    def explain(self, image: int) -> Explanation:
        """Tell what each member answered for an image, by its number, and whether it was routed."""
        exit_step = None if self.exits is None else int(self.exits[image])
        votes = {
            name: (self.classes[int(rows[image].argmax())], float(rows[image].max()))
            for name, rows in list(self.by_member.items())[:exit_step]
        }
        return Explanation(self.labels[image], votes, bool(self.routed[image]), exit_step)


@dataclass(frozen=True)
class Replay:
    """What came of predicting the golden inputs of an artifact again.

    Attributes:
        images: Number of golden inputs; 0 where the artifact has none, as before version 4.
        largest_difference: Largest difference of a probability to the expected one.
        problems: A sentence for each image that is answered otherwise than expected.
    """

    images: int
    largest_difference: float
    problems: tuple[str, ...]


def load(
    folder: Path | str,
    storage: S3Config | None = None,
    *,
    trust_code: bool = False,
    without: str | None = None,
    missing: Literal["fail", "reweight"] = "fail",
    device: str = "cpu",
    equal_bits: bool = False,
) -> "Predictor":
    """Load an artifact; every file is checked against its SHA-256.

    Args:
        folder: The `ensemble` folder of a run, or its place as s3://bucket/prefix. An artifact on S3
            is copied to a temporary folder, which lives as long as the predictor.
        storage: How S3 is reached.
        trust_code: Accept members that run code of their own: factories and .pt2 programs.
        without: Name of a member whose file is lost. The file is not read, and the others get the
            weights that were fitted for this loss.
        missing: What to do where the file of one member is lost or damaged: fail, or reweight the
            others as `without` does, with a warning; `Predictor.lost` then names the member.
        device: Device that predicts, as torch names it: `cpu`, `cuda`, `cuda:1`.
        equal_bits: Give an image the same bits whatever images are predicted with it, and those of
            the run's table. A call then costs whole batches of 64 images.

    Raises:
        ConfigError: There is no such device.
        UnknownNameError: No member has the name `without`.
        CheckpointError: The folder is not an artifact, a file in it is missing or changed, or there
            are no weights for the loss of the member.
        ConfigError: The store is missing, or refuses access.
    """
    if not str(folder).startswith(S3_SCHEME):
        place = Path(folder).expanduser()

        def load_here() -> Predictor:
            lost = _lost(place, without, missing)
            artifact = read(place, trust_code=trust_code, without=lost or without)
            return Predictor(artifact, None, device, equal_bits, lost)

        return load_unchanged(place, load_here)
    local = fetch(str(folder), storage or S3Config(), without, may_lack=missing == "reweight")
    lost = _lost(local.path, without, missing)
    artifact = read(local.path, trust_code=trust_code, without=lost or without)
    return Predictor(artifact, local, device, equal_bits, lost)


def _lost(folder: Path, without: str | None, missing: Literal["fail", "reweight"]) -> str | None:
    """Find the member whose file is lost, where others are to take its weight; say so."""
    if missing == "fail" or without is not None:
        return None
    lost = find_lost_member(folder)
    if lost is not None:
        warnings.warn(
            f"{lost.reason} The others answer with the weights that were fitted for the loss of "
            f"{lost.name!r}. Copy the artifact again to have all members.",
            stacklevel=4,
        )
    return None if lost is None else lost.name


class Predictor:
    """An ensemble that is ready to predict; `load` makes one.

    Args:
        artifact: The ensemble.
        local: Copy of an artifact on S3; it stays on disk as long as the predictor.
        device: Device that predicts, as torch names it.
        equal_bits: Give an image the same bits whatever images are predicted with it.
        lost: Name of the member that is left out because its file is lost; None if all are there.

    Raises:
        ConfigError: There is no such device.
    """

    def __init__(
        self,
        artifact: Artifact,
        local: FetchedFolder | None = None,
        device: str = "cpu",
        equal_bits: bool = False,
        lost: str | None = None,
    ) -> None:
        # Here, because torch takes seconds to import.
        from ensemble.checkpoints.load import load_network
        from ensemble.inference.device import open_device
        from ensemble.inference.forward import PreparedNetwork

        self._artifact = artifact
        self._local = local
        self._device = open_device(device)
        self._equal_bits = equal_bits
        self._lost = lost
        # By weights: where views are kept, several members are one network.
        distinct = {
            (member.weights_sha256, member.precision): member for member in _networks_of(artifact)
        }
        self._networks = {
            key: PreparedNetwork(load_network(member).to(self._device), member.precision).eval()
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

    @property
    def lost(self) -> str | None:
        """Name of the member that is left out because its file is lost; None if all are there."""
        return self._lost

    @property
    def artifact(self) -> Artifact:
        """The ensemble: members, weights and routing."""
        return self._artifact

    def predict(self, images: Any) -> Prediction:
        """Predict one image or several; their sizes may differ.

        Args:
            images: Paths, encoded bytes, PIL images, arrays uint8 `[height, width, 3]` in RGB or
                tensors uint8 `[3, height, width]`; one of these or any iterable of them.

        Raises:
            DecodeError: A file or bytes cannot be decoded, or an image is too thin to be resized.
            ShapeError: A value is not an image.
        """
        pixels = to_pixels(images)
        shard = ImageShard.pack([str(i) for i in range(len(pixels))], pixels)
        kept, prediction = self.predict_shard(shard)
        for bad in kept.bad:
            raise DecodeError(f"image {bad.image_id} cannot be predicted: {bad.reason}.")
        return prediction

    def predict_shard(self, shard: ImageShard) -> tuple[ImageShard, Prediction]:
        """Predict the images of a shard.

        Args:
            shard: Decoded images.

        Returns:
            The shard, in which images that are too thin to be resized are among the bad ones; and the
            prediction of its other images, in their order.
        """
        # Here, because torch takes seconds to import.
        from ensemble.inference.resized import without_strips

        artifact = self._artifact
        for member in _networks_of(artifact):
            views = [view for view, _ in weigh_views(member.views, member.preprocessing.size)]
            shard = without_strips(shard, member.preprocessing, views)
        if artifact.cascade is not None:
            return shard, self._with_sets(self._answer_in_steps(shard, artifact.cascade))
        logs = self._log_probabilities(artifact.members, shard)
        base = metrics.pooled(logs, artifact.weighting)
        by_member = {
            member.name: np.exp(rows.astype(np.float64))
            for member, rows in zip(artifact.members, logs, strict=True)
        }
        probabilities, answers, routed = base, base.argmax(axis=1), np.zeros(len(base), bool)
        if artifact.routing is not None:
            probabilities, answers, routed = self._route(base, shard, artifact.routing)
        prediction = Prediction(
            at_temperature(probabilities, artifact.temperature),
            answers,
            routed,
            artifact.classes,
            by_member,
        )
        return shard, self._with_sets(prediction)

    def without_routing(self) -> "Predictor":
        """Leave out the sub-classifiers: every image is answered by the weighted mean of the members.

        Conformal sets, which were fitted on the answers with them, are left out, too.
        """
        other = copy(self)
        other._artifact = replace(self._artifact, routing=None, conformal=None)
        return other

    def without_cascade(self) -> "Predictor":
        """Leave out the steps of a cascade: every image is answered by the weighted mean of all members.

        Conformal sets, which were fitted on the answers of the cascade, are left out, too.
        """
        other = copy(self)
        other._artifact = replace(self._artifact, cascade=None, lead=None, conformal=None)
        return other

    def network_of(self, member: Member) -> "nn.Module":
        """Give the network of a member, in its precision and on the device of the predictor."""
        return self._networks[member.weights_sha256, member.precision].network

    def module(self) -> "EnsembleModule":
        """Give the ensemble as a plain torch module, from pixels in [0, 1] to probabilities.

        It shares the networks of the predictor, and takes a batch of images of one size.

        Raises:
            ConfigError: The artifact is a cascade or routes images to sub-classifiers, a member is a program, or a
                member looks at whole images.
        """
        # Here, because torch takes seconds to import.
        from ensemble.inference.ensemble_module import EnsembleModule

        artifact = self._artifact
        if artifact.cascade is not None:
            raise ConfigError(
                f"the artifact is a cascade of {len(artifact.cascade.order)} steps, which a plain module cannot be. "
                "Export the whole ensemble, which `ensemble search RUN --save` writes, use "
                "`predictor.without_cascade()`, or use the artifact as it is."
            )
        if artifact.routing is not None:
            raise ConfigError(
                f"the artifact routes unsure images to {len(artifact.routing.subclassifiers)} sub-classifiers, "
                "which a plain module cannot. Leave them out with `predictor.without_routing()`, or "
                "`--without-routing` of `ensemble export`, or use the artifact as it is."
            )
        networks = [self.network_of(member) for member in artifact.members]
        module = EnsembleModule(
            artifact.members, networks, artifact.weighting, artifact.temperature
        )
        return module.to(self._device).eval()

    def replay(self) -> Replay:
        """Predict the golden inputs of the artifact again, and compare the answers.

        Raises:
            CheckpointError: The golden inputs are damaged.
        """
        golden = read_golden(self._artifact.folder)
        if golden is None:
            return Replay(0, 0.0, ())
        prediction = self.predict(golden.images)
        return Replay(
            len(golden.images), *compare(golden, prediction.probabilities, prediction.answers)
        )

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

    def _with_sets(self, prediction: Prediction) -> Prediction:
        sets = self._artifact.conformal
        return replace(prediction, sets=sets.of(prediction.probabilities)) if sets else prediction

    def _answer_in_steps(self, shard: ImageShard, cascade: Steps) -> Prediction:
        """Answer images step by step; those that go on make up the batches of the next step."""
        artifact = self._artifact
        members = with_lead(artifact.members, artifact.lead)
        pixels, shape = list(shard.images()), (len(shard), len(artifact.classes))
        by_member = {members[index].name: np.full(shape, np.nan) for index in cascade.order}

        def predict(index: int, rows: Int[np.ndarray, " row"]) -> Float[np.ndarray, "row class"]:
            part = shard
            if len(rows) < len(shard):
                part = ImageShard.pack(shard.image_ids[rows].tolist(), [pixels[i] for i in rows])
            (logs,) = self._log_probabilities([members[index]], part)
            by_member[members[index].name][rows] = np.exp(logs.astype(np.float64))
            return logs

        steps = follow(cascade, artifact.weighting, shape, predict)
        return Prediction(
            at_temperature(steps.probabilities, artifact.temperature),
            steps.scores.argmax(axis=1),
            np.zeros(len(shard), bool),
            artifact.classes,
            by_member,
            steps.exits + 1,
        )

    def _route(
        self,
        base: Float[np.ndarray, "image class"],
        shard: ImageShard,
        fitted: FittedRouting,
    ) -> tuple[
        Float[np.ndarray, "image class"], Int[np.ndarray, "image"], Bool[np.ndarray, "image"]
    ]:
        """Return probabilities, answers, and which images a sub-classifier answered."""
        routing, subs, pixels = fitted.routing, {}, list(shard.images())
        routed, routed_to = is_routed(base, routing), is_routed_to(base, routing)
        for number, member in fitted.subclassifiers.items():
            # Only the images that are routed to it; the answer does not depend on the other rows.
            rows = np.flatnonzero(routed_to[:, number])
            subs[number] = np.zeros((len(base), len(member.classes)))
            if len(rows):
                part = ImageShard.pack(shard.image_ids[rows].tolist(), [pixels[i] for i in rows])
                (logs,) = self._log_probabilities([member], part)
                subs[number][rows] = np.exp(logs.astype(np.float64))
        answers = rank_scores(base, subs, routing, routed).argmax(axis=1)
        return answer(base, subs, routing, routed), answers, routed

    def _log_probabilities(
        self,
        members: Sequence[Member],
        shard: ImageShard,
    ) -> list[Float[np.ndarray, "image class"]]:
        """Predict with several members; images are resized once for all of them."""
        from ensemble.inference.predict import predict
        from ensemble.inference.resized import ResizedShard

        resized = ResizedShard(shard, self._device)
        networks = [self._networks[member.weights_sha256, member.precision] for member in members]
        blocks = [
            predict(network, member, shard, self._device, resized, pads_batches=self._equal_bits)
            for network, member in zip(networks, members, strict=True)
        ]
        return [
            apply_temperature(block.log_probabilities, member.temperature)
            for block, member in zip(blocks, members, strict=True)
        ]


class Batches:
    """Answers batches of Ray Data, for those whose images are there already.

    `dataset.map_batches(Batches, fn_constructor_args=(FOLDER,), concurrency=(1, 8), num_gpus=1)`
    adds columns to each batch. `ensemble predict` needs no Ray Data, goes on after a stop, and gives images that
    cannot be decoded a row with the reason, where this class ends the job.

    Args:
        folder: The artifact, as `load` takes it.
        column: Column with the images, each as `Predictor.predict` takes it.
        top_k: Number of the most probable classes to give.
        settings: Further arguments of `load`, as `device="cuda"`.
    """

    def __init__(
        self, folder: Path | str, column: str = "image", top_k: int = 5, **settings: Any
    ) -> None:
        self._predictor = load(folder, **settings)
        self._column, self._top_k = column, top_k

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Answer a batch, and give its other columns with the answers."""
        prediction = self._predictor.predict(list(batch[self._column]))
        top = prediction.top(self._top_k)
        rest = {name: values for name, values in batch.items() if name != self._column}
        return rest | {
            "answer": np.array(prediction.labels),
            "probability": prediction.probabilities.max(axis=1),
            "top_labels": np.array([[label for label, _ in row] for row in top]),
            "top_probabilities": np.array([[value for _, value in row] for row in top]),
        }


def _networks_of(artifact: Artifact) -> tuple[Member, ...]:
    """List the members, the lead of a cascade, and the sub-classifiers behind them."""
    members, routing = with_lead(artifact.members, artifact.lead), artifact.routing
    return (*members, *(routing.subclassifiers.values() if routing else ()))
