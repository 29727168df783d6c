"""Examples: test images that two predictors answer differently, with the probabilities of each."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from ensemble.evaluation import metrics
from ensemble.evaluation.outcome import Outcome
from ensemble.evaluation.reading import read_column
from ensemble.images.index import ImageIndex
from ensemble.members.member import Member
from ensemble.outranking.weighting import Weighting
from ensemble.report.documents import run as document
from ensemble.subclassifiers.route import FittedRouting, answer, is_routed
from ensemble.table.logit_table import LogitTable

_LONGEST_SIDE = 96


@dataclass(frozen=True)
class PredictorOnTest:
    """A predictor and its outcome on the test split.

    Attributes:
        name: Name in the report.
        weighting: Weights of the members.
        outcome: Outcome on the test split.
        routing: Gate and sub-classifiers; None where no image is routed.
    """

    name: str
    weighting: Weighting
    outcome: Outcome
    routing: FittedRouting | None = None


@dataclass(frozen=True)
class Change:
    """Two predictors whose answers are compared.

    Attributes:
        before: The predictor that comes first in the report.
        after: The predictor that is to do better.
    """

    before: PredictorOnTest
    after: PredictorOnTest


def list_examples(
    changes: Sequence[Change],
    table: LogitTable,
    members: Sequence[Member],
    images: ImageIndex,
    decode: Callable[[str], np.ndarray],
    max_examples: int,
    k: int = 1,
) -> tuple[document.Example, ...]:
    """List images that a change puts right and images that it puts wrong, in turn, each once.

    Args:
        changes: Pairs of predictors; those of the first pair come first.
        table: The logit table, with the rows of members and sub-classifiers.
        members: The pool.
        images: Images of the test split.
        decode: Gives the pixels of an image by its id, uint8 RGB.
        max_examples: Greatest number of examples.
        k: An image is right where its label is among the k highest classes.
    """
    change_by_row: dict[int, Change] = {}
    for change in changes:
        was_wrong, is_wrong = (c.outcome.is_error(k) for c in (change.before, change.after))
        fixed, broken = np.flatnonzero(was_wrong & ~is_wrong), np.flatnonzero(~was_wrong & is_wrong)
        for row in _in_turn(fixed, broken):
            if len(change_by_row) < max_examples:
                change_by_row.setdefault(row, change)
    return tuple(
        _example(change, row, table, members, images, decode, k)
        for row, change in change_by_row.items()
    )


def _in_turn(first: Int[np.ndarray, "a"], second: Int[np.ndarray, "b"]) -> list[int]:
    longer = max(len(first), len(second))
    return [int(part[i]) for i in range(longer) for part in (first, second) if i < len(part)]


def _example(
    change: Change,
    row: int,
    table: LogitTable,
    members: Sequence[Member],
    images: ImageIndex,
    decode: Callable[[str], np.ndarray],
    k: int,
) -> document.Example:
    image_id = str(images.image_ids[row])

    def answer_of(predictor: PredictorOnTest) -> document.Answer:
        probabilities = _probabilities(table, members, image_id, predictor)
        return document.Answer(
            name=predictor.name,
            answer=int(predictor.outcome.answers[row]),
            probabilities=tuple(round(float(p), 6) for p in np.clip(probabilities, 0, 1)),
        )

    return document.Example(
        image_id=image_id,
        label=int(images.labels[row]),
        png_base64=png(decode(image_id)),
        before=answer_of(change.before),
        after=answer_of(change.after),
        kind="broken" if change.after.outcome.is_error(k)[row] else "fixed",
    )


def _probabilities(
    table: LogitTable, members: Sequence[Member], image_id: str, predictor: PredictorOnTest
) -> Float[np.ndarray, "class"]:
    columns = [read_column(table, member, [image_id]) for member in members]
    base = metrics.pooled(columns, predictor.weighting)
    if predictor.routing is None:
        return base[0]
    subs = {
        number: np.exp(table.read(member.column, [image_id]).astype(np.float64))
        for number, member in predictor.routing.subclassifiers.items()
    }
    routing = predictor.routing.routing
    return answer(base, subs, routing, is_routed(base, routing))[0]


def png(pixels: np.ndarray) -> str:
    """Make a PNG of an image, at most 96 pixels a side, in base64."""
    image = Image.fromarray(pixels)
    image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
