"""Test images whose answer changed between two predictors, with what each said."""

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
from ensemble.report.documents import run as document
from ensemble.subclassifiers.route import FittedRouting, answer, is_routed
from ensemble.table.logit_table import LogitTable

_LONGEST_SIDE = 96

# What a predictor is called, its weights in units of 0.00001, and its sub-classifiers.
Voice = tuple[str, Int[np.ndarray, "member"], FittedRouting | None]


@dataclass(frozen=True)
class Change:
    """Two predictors, and how they did on the test split."""

    before: Voice
    after: Voice
    before_outcome: Outcome
    after_outcome: Outcome


def list_examples(
    changes: Sequence[Change],
    table: LogitTable,
    members: Sequence[Member],
    images: ImageIndex,
    decode: Callable[[str], np.ndarray],
    max_examples: int,
) -> tuple[document.Example, ...]:
    """Images that a change put right and images that it put wrong, in turn, the first ones by id."""
    found: list[tuple[Change, int]] = []
    for change in changes:
        fixed = np.flatnonzero(change.before_outcome.is_wrong & ~change.after_outcome.is_wrong)
        broken = np.flatnonzero(~change.before_outcome.is_wrong & change.after_outcome.is_wrong)
        found += [(change, int(row)) for row in _in_turn(fixed, broken)]
    shown: dict[int, Change] = {}
    for change, row in found:
        if len(shown) < max_examples:
            shown.setdefault(row, change)
    return tuple(
        _example(change, row, table, members, images, decode) for row, change in shown.items()
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
) -> document.Example:
    image_id = str(images.image_ids[row])

    def say(voice: Voice, outcome: Outcome) -> document.Answer:
        name, units, routing = voice
        probabilities = _probabilities(table, members, image_id, units, routing)
        return document.Answer(
            name=name,
            answer=int(outcome.answers[row]),
            probabilities=tuple(round(float(p), 6) for p in np.clip(probabilities, 0, 1)),
        )

    return document.Example(
        image_id=image_id,
        label=int(images.labels[row]),
        png_base64=png(decode(image_id)),
        before=say(change.before, change.before_outcome),
        after=say(change.after, change.after_outcome),
        kind="broken" if change.after_outcome.is_wrong[row] else "fixed",
    )


def _probabilities(
    table: LogitTable,
    members: Sequence[Member],
    image_id: str,
    units: Int[np.ndarray, "member"],
    routing: FittedRouting | None,
) -> Float[np.ndarray, "class"]:
    base = metrics.average([read_column(table, m, [image_id]) for m in members], units)
    if routing is None:
        return base[0]
    subs = {
        number: np.exp(table.read(m.column, [image_id]).astype(np.float64))
        for number, m in routing.subclassifiers.items()
    }
    gate = is_routed(base, routing.routing)
    return answer(base, subs, routing.routing, gate)[0]


def png(pixels: np.ndarray) -> str:
    """A small picture of an image, base64."""
    image = Image.fromarray(pixels)
    image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
