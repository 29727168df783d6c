"""Predictions of a synthetic pool, to time searches at sizes that would take long to predict.

Classes have prototypes in a feature space, near to each other within a superclass. An image is the
prototype of its label, for some images mixed with another class, moved by noise: a common part with
a heavy tail (hard images are hard for all members), a part that half of the pool shares, and a part
of each member's own. Logits are the scaled products with the prototypes. The constants were set so
that the default pool of 1000 classes has top-1 errors from 0.37 to 0.16, and some 35 contested
classes an image; no number claims to be that of a real pool.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int


@dataclass(frozen=True)
class SyntheticPool:
    """Sizes and character of a pool.

    Attributes:
        num_members: Members; the last is the best, the first the weakest.
        num_classes: Classes.
        num_superclasses: Groups of classes that are easily confused.
        num_features: Dimensions that members see an image in.
        two_object_share: Share of images that also show another class.
        seed: Of everything.
    """

    num_members: int = 13
    num_classes: int = 1000
    num_superclasses: int = 60
    num_features: int = 48
    two_object_share: float = 0.08
    seed: int = 0

    def labels(self, num_images: int) -> Int[np.ndarray, " image"]:
        """Draw the label of each image."""
        return self._rng(0).integers(0, self.num_classes, num_images)

    def columns(
        self, labels: Int[np.ndarray, " image"]
    ) -> Iterator[Float32[np.ndarray, "image class"]]:
        """Yield the log-probabilities of one member after the other."""
        prototypes = self._prototypes()
        shared = self._features(prototypes, labels)
        families = [self._noise(1 + family, len(labels)) for family in range(2)]
        for member, noise in enumerate(np.linspace(2.9, 1.8, self.num_members).tolist()):
            own = self._noise(3 + member, len(labels))
            seen = shared + noise * (0.6 * families[member % 2] + 0.8 * own)
            yield _log_softmax(seen @ (7.0 * prototypes.T))

    def _prototypes(self) -> Float32[np.ndarray, "class feature"]:
        rng = self._rng(1)
        superclass = rng.integers(0, self.num_superclasses, self.num_classes)
        centres = rng.standard_normal((self.num_superclasses, self.num_features), dtype=np.float32)
        own = rng.standard_normal((self.num_classes, self.num_features), dtype=np.float32)
        mixed = centres[superclass] + 0.8 * own
        return np.asarray(mixed / np.linalg.norm(mixed, axis=1, keepdims=True))

    def _features(
        self, prototypes: Float32[np.ndarray, "class feature"], labels: Int[np.ndarray, " image"]
    ) -> Float32[np.ndarray, "image feature"]:
        rng = self._rng(2, 0)
        other = rng.integers(0, self.num_classes, len(labels))
        share = np.where(rng.random(len(labels)) < self.two_object_share, 0.5, 0.0)[:, None]
        difficulty = 0.5 * rng.lognormal(sigma=0.7, size=(len(labels), 1))
        noise = self._noise(0, len(labels))
        seen = (1 - share) * prototypes[labels] + share * prototypes[other] + difficulty * noise
        return np.asarray(2.0 * seen, dtype=np.float32)

    def _noise(self, stream: int, num_images: int) -> Float32[np.ndarray, "image feature"]:
        noise = self._rng(3, stream).standard_normal(
            (num_images, self.num_features), dtype=np.float32
        )
        return noise * np.float32(self.num_features**-0.5)

    def _rng(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *stream])


def _log_softmax(
    logits: Float32[np.ndarray, "image class"],
) -> Float32[np.ndarray, "image class"]:
    logits -= logits.max(axis=1, keepdims=True)
    for first in range(0, len(logits), 256):
        block = logits[first : first + 256]
        block -= np.log(np.exp(block).sum(axis=1, keepdims=True))
    return logits
