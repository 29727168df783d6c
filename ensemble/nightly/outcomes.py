"""Outcomes of one night on a set of images: all that every figure and every comparison depends on, and its file."""

import io
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from ensemble.errors import DataError
from ensemble.outranking.fixed_point import PROBABILITY_FLOOR

ECE_BINS = 15
_FIELDS = ("ranks", "answers", "label_probabilities", "confidences")


@dataclass(frozen=True)
class Outcomes:
    """How a deployed ensemble does on each image, in the order of the set's ids.

    Attributes:
        ranks: Number of classes that outrank the label; 0 is a hit.
        answers: Index of the class that is answered.
        label_probabilities: Probability of the label.
        confidences: Probability of the answer.
    """

    ranks: Int[np.ndarray, "image"]
    answers: Int[np.ndarray, "image"]
    label_probabilities: Float[np.ndarray, "image"]
    confidences: Float[np.ndarray, "image"]

    def __len__(self) -> int:
        return len(self.ranks)

    def is_error(self, k: int) -> Bool[np.ndarray, "image"]:
        """Tell for each image whether its label is not among the k highest classes."""
        return self.ranks >= k

    @property
    def losses(self) -> Float[np.ndarray, "image"]:
        """The NLL of each image, in nats; probabilities are floored as `metrics.nll` does."""
        floored = np.maximum(np.nan_to_num(self.label_probabilities), PROBABILITY_FLOOR)
        return np.asarray(-np.log(floored.astype(np.float64)))

    @property
    def bin_gaps(self) -> Float[np.ndarray, "image bin"]:
        """Accuracy less confidence of each image, in the column of its bin of confidence."""
        confidences = np.nan_to_num(self.confidences.astype(np.float64))
        bins = np.clip(np.ceil(confidences * ECE_BINS) - 1, 0, ECE_BINS - 1).astype(np.int64)
        gaps = np.zeros((len(self), ECE_BINS))
        gaps[np.arange(len(self)), bins] = (self.ranks == 0) - confidences
        return gaps

    @cached_property
    def sha256(self) -> str:
        """Identity of the numbers, in 64 hexadecimal digits: equal exactly where every number is."""
        digest = sha256()
        for name, array in self._arrays().items():
            digest.update(f"{name} {len(array)}\0".encode() + array.tobytes())
        return digest.hexdigest()

    def encode(self) -> bytes:
        """Encode the outcomes as the bytes of a file."""
        buffer = io.BytesIO()
        arrays: dict[str, Any] = self._arrays()
        np.savez_compressed(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def decode(cls, content: bytes, name: str) -> "Outcomes":
        """Decode what `encode` gave.

        Raises:
            DataError: The bytes are not those of outcomes.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                return cls(**{field: arrays[field] for field in _FIELDS})
        except (ValueError, KeyError, OSError, EOFError) as error:
            raise DataError(
                f"{name} does not hold the outcomes of a night ({error}). Restore the file, or accept a later "
                "night as the baseline."
            ) from error

    def _arrays(self) -> dict[str, np.ndarray]:
        return {
            "ranks": self.ranks.astype("<i4"),
            "answers": self.answers.astype("<i4"),
            "label_probabilities": self.label_probabilities.astype("<f4"),
            "confidences": self.confidences.astype("<f4"),
        }
