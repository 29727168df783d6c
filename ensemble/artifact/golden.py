"""Golden inputs: images inside an artifact with the answers that it gave when it was saved.

Whoever loads the artifact on another machine predicts them again, and knows by the answers that the
weights, the libraries and the device do what they did. The answers are made from the run's table, so
that they also hold the predictor to the arithmetic that the run was judged by.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image
from pydantic import Field, NonNegativeInt, PositiveInt

from ensemble.config import Config
from ensemble.errors import CheckpointError, DecodeError
from ensemble.files import seal, unseal
from ensemble.images.decode import decode
from ensemble.members.settings import Precision

FOLDER, DOCUMENT = "golden", "golden/expected.json"

_TOLERANCE: dict[Precision, float] = {"float32": 1e-3, "bfloat16": 3e-2, "float16": 5e-3}
"""How far a probability may be off on another device, by the least exact precision of a member."""

_MAX_PIXELS = 1 << 30  # this project wrote the files, and their SHA-256 is checked first

Pixels = UInt8[np.ndarray, "_ _ 3"]


@dataclass(frozen=True)
class Golden:
    """Images, and what an ensemble answers.

    Attributes:
        images: RGB pixels.
        probabilities: Probabilities of the ensemble, routing and temperature included.
        answers: Class index of each answer.
        tolerance: How far a probability may be off on another device.
    """

    images: tuple[Pixels, ...]
    probabilities: Float[np.ndarray, "image class"]
    answers: Int[np.ndarray, "image"]
    tolerance: float


class GoldenImage(Config):
    """An image with its expected answer."""

    file: str
    """File of the image, in the folder of the document."""
    sha256: str
    """SHA-256 of the file."""
    answer: NonNegativeInt
    """Class index of the answer."""
    probabilities: tuple[Annotated[float, Field(ge=0, le=1 + 1e-6)], ...]
    """Probability of each class."""


class GoldenDocument(Config):
    """What `golden/expected.json` says."""

    schema_version: PositiveInt = 1
    tolerance: Annotated[float, Field(gt=0, lt=1)]
    """How far a probability may be off on another device."""
    images: tuple[GoldenImage, ...] = Field(min_length=1)


def tolerance_of(precisions: Sequence[Precision]) -> float:
    """Tell how far a probability may be off, from the precisions of the members."""
    return max(_TOLERANCE[precision] for precision in precisions)


def files_of(count: int) -> tuple[str, ...]:
    """Name the files of so many golden inputs, relative to the folder of the artifact."""
    return (DOCUMENT, *(f"{FOLDER}/{_name(number)}" for number in range(count))) if count else ()


def _name(number: int) -> str:
    return f"{number}.png"


def write_golden(folder: Path, golden: Golden) -> None:
    """Write golden inputs and their answers into the folder of an artifact.

    Raises:
        OSError: The disk is full, or the folder cannot be written to.
    """
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    entries = []
    for number, pixels in enumerate(golden.images):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        file = _name(number)
        (folder / FOLDER / file).write_bytes(buffer.getvalue())
        entries.append(
            GoldenImage(
                file=file,
                sha256=sha256(buffer.getvalue()).hexdigest(),
                answer=int(golden.answers[number]),
                probabilities=tuple(golden.probabilities[number].tolist()),
            )
        )
    document = GoldenDocument(tolerance=golden.tolerance, images=tuple(entries))
    text = json.dumps(seal(document.model_dump(mode="json")), indent=1) + "\n"
    (folder / DOCUMENT).write_text(text, encoding="utf-8")


def read_golden(folder: Path) -> Golden | None:
    """Read the golden inputs of an artifact; None where it has none, as before version 4.

    Raises:
        CheckpointError: The document or an image is damaged or missing.
    """
    path = folder / DOCUMENT
    if not path.is_file():
        return None
    try:
        document = GoldenDocument.model_validate(unseal(json.loads(path.read_bytes())))
        images = tuple(_read_image(path.parent, entry) for entry in document.images)
    except (OSError, ValueError, DecodeError, RecursionError) as error:  # also pydantic's
        raise CheckpointError(
            f"the golden inputs {path} cannot be read: {error}. Copy the artifact again."
        ) from error
    return Golden(
        images,
        np.array([entry.probabilities for entry in document.images]),
        np.array([entry.answer for entry in document.images], np.int64),
        document.tolerance,
    )


def _read_image(folder: Path, entry: GoldenImage) -> Pixels:
    path = folder / entry.file
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{entry.file!r} lies outside the folder")
    content = path.read_bytes()
    if sha256(content).hexdigest() != entry.sha256:
        raise ValueError(f"the bytes of {entry.file} are not those that were written")
    return decode(io.BytesIO(content), _MAX_PIXELS)


def compare(
    golden: Golden,
    probabilities: Float[np.ndarray, "image class"],
    answers: Int[np.ndarray, "image"],
) -> tuple[float, tuple[str, ...]]:
    """Compare answers with the expected ones.

    An answer may differ from the expected one only where two classes are so close that the tolerance
    decides between them.

    Args:
        golden: The golden inputs.
        probabilities: Probabilities of the same images.
        answers: Class index of each answer.

    Returns:
        The largest difference of a probability, and a sentence for each image that is answered
        otherwise.
    """
    if probabilities.shape != golden.probabilities.shape:
        return float("inf"), (
            f"the answers have the shape {list(probabilities.shape)}, expected "
            f"{list(golden.probabilities.shape)}.",
        )
    off = np.abs(probabilities - golden.probabilities).max(axis=1)
    problems = []
    for number, (found, expected) in enumerate(zip(answers, golden.answers, strict=True)):
        row = golden.probabilities[number]
        is_close = abs(row[found] - row[expected]) <= 2 * golden.tolerance
        # False for NaN, too.
        if not off[number] <= golden.tolerance:
            problems.append(
                f"image {number}: a probability is off by {off[number]:.2g}, more than "
                f"{golden.tolerance:.2g}."
            )
        elif found != expected and not is_close:
            problems.append(f"image {number}: the answer is class {found}, expected {expected}.")
    return float(off.max()), tuple(problems)
