"""Parity: whether an exported program answers as the predictor does, at several sizes of a batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32
from PIL import Image

from ensemble.artifact.golden import Golden, Pixels, tolerance_of
from ensemble.errors import CheckpointError, ConfigError
from ensemble.predictor import Predictor

BATCHES = (1, 3, 8)
"""Sizes of the batches that a program is checked at: one, one that no export has seen, and a large one."""

TOLERANCE = 1e-4
"""How far a probability may be off where all members are of float32."""

Size = tuple[int, int]
Batch = Float32[np.ndarray, "image 3 height width"]
Run = Callable[[Batch], Float[np.ndarray, "image class"]]


@dataclass(frozen=True)
class Check:
    """Images to check a program with, and what the predictor answers.

    Attributes:
        batch: Pixels in [0, 1].
        expected: Probabilities of the ensemble.
        tolerance: How far a probability may be off.
    """

    batch: Batch
    expected: Float[np.ndarray, "image class"]
    tolerance: float

    def run(self, program: Run, name: str) -> float:
        """Compare a program at each size of a batch; return the largest difference of a probability.

        Args:
            program: The program.
            name: What messages call it.

        Raises:
            CheckpointError: The program answers otherwise than the predictor.
        """
        largest = 0.0
        for size in BATCHES:
            answers = np.asarray(program(self.batch[:size]))
            if answers.shape != (size, self.expected.shape[1]):
                raise CheckpointError(
                    f"{name} gives {list(answers.shape)} for {size} images, expected "
                    f"{[size, self.expected.shape[1]]}. The batch became fixed; update torch, or take another "
                    "format."
                )
            off = float(np.abs(answers - self.expected[:size]).max())
            if not off <= self.tolerance:  # false for NaN, too
                raise CheckpointError(
                    f"{name} is off by {off:.2g} at {size} images, more than {self.tolerance:.2g}: it is not kept. "
                    "Update torch and onnxscript, or take another format."
                )
            largest = max(largest, off)
        return largest


def make_check(predictor: Predictor, golden: Golden, size: Size) -> Check:
    """Answer golden inputs of one size with the predictor.

    Args:
        predictor: The ensemble.
        golden: Golden inputs; those of another size are stretched, and repeated up to the largest batch.
        size: Height and width.
    """
    pixels = [_stretch(image, size) for image in golden.images]
    pixels = [pixels[i % len(pixels)] for i in range(max(BATCHES))]
    member_precisions = [member.precision for member in predictor.members]
    is_exact = set(member_precisions) == {"float32"}
    return Check(
        np.stack(pixels).transpose(0, 3, 1, 2).astype(np.float32) / 255,
        predictor.predict(pixels).probabilities,
        TOLERANCE if is_exact else tolerance_of(member_precisions),
    )


def choose_size(predictor: Predictor, images: Sequence[Pixels], size: Size | None) -> Size:
    """Choose the size of a program's input: the one asked for, that of the golden inputs, or the largest of a member.

    Raises:
        ConfigError: The size is less than a pixel, or more than any image has.
    """
    if size is None:
        shapes = {image.shape[:2] for image in images}
        if len(shapes) == 1:
            height, width = shapes.pop()
            return int(height), int(width)
        side = max(m.preprocessing.resize or m.preprocessing.size for m in predictor.members)
        return side, side
    if not all(1 <= side <= 1 << 14 for side in size):
        raise ConfigError(
            f"the size {size[0]}x{size[1]} is that of no image. Expected HEIGHTxWIDTH, as 224x224."
        )
    return size


def _stretch(image: Pixels, size: Size) -> Pixels:
    if image.shape[:2] == size:
        return image
    height, width = size
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
