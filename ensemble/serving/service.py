"""What a server answers with, and what it needs of whoever predicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from ensemble.errors import ProjectError
from ensemble.images.inputs import Pixels
from ensemble.images.shard import ImageShard
from ensemble.predictor import Predictor


class RequestError(ProjectError):
    """A request cannot be answered.

    Attributes:
        status: HTTP status: 4xx where the request is wrong, 503 where it may be sent again.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Answer:
    """The answer for one image.

    Attributes:
        label: Name of the class that is answered.
        probabilities: Probability of each class; float32, so that every protocol gives the same digits.
        routed: Whether a sub-classifier answered.
        votes: For each member, the class it gives most probability to, and that probability.
        exit_step: The step of a cascade after which the image stopped, from 1; None without a cascade.
        set: Classes of the conformal set, the most probable first; None without such sets.
    """

    label: str
    probabilities: Float32[np.ndarray, " class"]
    routed: bool
    votes: Mapping[str, tuple[str, float]]
    exit_step: int | None = None
    set: tuple[str, ...] | None = None

    def top(self, k: int, classes: Sequence[str]) -> list[tuple[str, float]]:
        """Give the k most probable classes with their probabilities, the best first."""
        order = np.argsort(-self.probabilities, kind="stable")[:k]
        return [(classes[index], float(self.probabilities[index])) for index in order]


@dataclass(frozen=True)
class About:
    """What is served.

    Attributes:
        name: Name of the ensemble.
        classes: Class names, by class index.
        members: Names of the members with a weight.
    """

    name: str
    classes: tuple[str, ...]
    members: tuple[str, ...]


@runtime_checkable
class Service(Protocol):
    """Whoever predicts: a predictor in this process, or replicas on a cluster."""

    @property
    def about(self) -> About:
        """What is served."""

    async def answer(self, images: Sequence[Pixels]) -> Sequence[Answer | str]:
        """Answer each image, or say in a phrase why it cannot be predicted.

        Raises:
            RequestError: Nobody can answer now.
        """

    async def problems(self) -> Sequence[str]:
        """Say, a sentence each, what makes answers wrong or impossible; nothing where all is well."""


def answer_images(predictor: Predictor, images: Sequence[Pixels]) -> list[Answer | str]:
    """Answer images with a predictor.

    Args:
        predictor: The ensemble.
        images: Pixels, whose sizes may differ.

    Returns:
        The answer of each image, or a phrase for one that is too thin to be resized.
    """
    names = [str(number) for number in range(len(images))]
    kept, prediction = predictor.predict_shard(ImageShard.pack(names, images))
    rows = {name: row for row, name in enumerate(kept.image_ids.tolist())}
    reasons = {bad.image_id: bad.reason for bad in kept.bad}
    probabilities = prediction.probabilities.astype(np.float32)

    def answer(name: str) -> Answer | str:
        if name in reasons:
            return reasons[name]
        row = rows[name]
        explanation = prediction.explain(row)
        return Answer(
            explanation.answer,
            probabilities[row],
            explanation.routed,
            explanation.votes,
            explanation.exit_step,
            prediction.set_of(row),
        )

    return [answer(name) for name in names]
