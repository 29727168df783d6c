"""Golden answers from the logit table: what a run was judged by, and no forward pass more."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int, Shaped

from ensemble.artifact.golden import Golden, Pixels, tolerance_of
from ensemble.cascade.steps import CascadeAnswers, Steps, follow, with_lead
from ensemble.errors import DecodeError
from ensemble.evaluation import metrics
from ensemble.evaluation.calibration import at_temperature
from ensemble.evaluation.reading import WINDOW_IMAGES, read_column
from ensemble.images.index import ImageIndex
from ensemble.members.member import Member
from ensemble.outranking.weighting import Weighting
from ensemble.subclassifiers.answers import gather_evidence
from ensemble.subclassifiers.route import FittedRouting, answer, is_routed, rank_scores
from ensemble.table.logit_table import LogitTable

NUM_IMAGES = 8
"""Number of golden inputs: as many as the largest batch that an exported program is checked with."""

_STEPPED = 1024  # images whose steps are looked at
_FAR = 4  # times the tolerance of a probability: a margin moves by two of them, and devices differ
_CANDIDATES, _MAX_PIXELS = 32, 1 << 21  # two megapixels; eight PNG files of them have some 30 MB


def golden_from_table(
    table: LogitTable,
    members: Sequence[Member],
    weighting: Weighting,
    routing: FittedRouting | None,
    temperature: float,
    images: ImageIndex,
    decode: Callable[[str], Pixels],
    cascade: Steps | None = None,
    lead: Member | None = None,
) -> Golden | None:
    """Choose golden inputs among some images, and read from the table what the ensemble answers.

    Args:
        table: The logit table, with the rows of the members and of the sub-classifiers.
        members: The pool, each at its temperature.
        weighting: Weight of each member.
        routing: The gate and its sub-classifiers; None where no image is routed.
        temperature: Temperature of the ensemble's probabilities.
        images: Images of which some are chosen, at equal distances.
        decode: Gives the pixels of an image by its id.
        cascade: Steps of a cascade over the members with a weight. Its golden inputs are far enough from all
            thresholds to stop at the same step on another device.
        lead: The first member of the cascade where it has no weight.

    Returns:
        The golden inputs; None where no image can be decoded any more.
    """
    used = [member for member, units in zip(members, weighting.units, strict=True) if units]
    weights = replace(weighting, units=weighting.units[weighting.units > 0])
    tolerance = tolerance_of([member.precision for member in with_lead(used, lead)])
    if cascade is not None:
        # As many as fit into memory, whatever the split.
        images = images.take(np.unique(np.linspace(0, len(images) - 1, _STEPPED).astype(int)))
        slack = cascade_answers(table, used, weights, cascade, lead, images).slack
        images = images.take(np.flatnonzero(slack > _FAR * tolerance))
    pixels = _choose(images, decode) if len(images) else {}
    if not pixels:
        return None
    position = {image_id: row for row, image_id in enumerate(images.image_ids.tolist())}
    chosen = images.take(np.array([position[image_id] for image_id in pixels]))
    if cascade is not None:
        in_steps = cascade_answers(table, used, weights, cascade, lead, chosen)
        probabilities, answers = in_steps.probabilities, in_steps.scores.argmax(axis=1)
    elif routing is not None and routing.routing.is_open:
        fitted = routing.routing
        tolerance = max(
            tolerance, tolerance_of([m.precision for m in routing.subclassifiers.values()])
        )
        evidence = gather_evidence(
            table, members, chosen, weighting, fitted.clusters, routing.subclassifiers
        )
        routed = is_routed(evidence.base, fitted)
        probabilities = answer(evidence.base, evidence.subs, fitted, routed)
        answers = rank_scores(evidence.base, evidence.subs, fitted, routed).argmax(axis=1)
    else:
        columns = [read_column(table, member, chosen.image_ids) for member in used]
        probabilities = metrics.pooled(columns, weights)
        answers = probabilities.argmax(axis=1)
    return Golden(
        tuple(pixels.values()),
        at_temperature(probabilities, temperature),
        answers,
        tolerance,
    )


def cascade_answers(
    table: LogitTable,
    members: Sequence[Member],
    weighting: Weighting,
    cascade: Steps,
    lead: Member | None,
    images: ImageIndex,
) -> CascadeAnswers:
    """Answer images of the table by a cascade, some at a time.

    Args:
        table: The logit table, with the rows of the members and of the lead.
        members: The ensemble's members, each at its temperature.
        weighting: Weight of each member, above 0.
        cascade: The cascade over them.
        lead: The first member of the cascade where it has no weight.
        images: The images.
    """
    networks, parts = with_lead(members, lead), []
    for start in range(0, len(images), WINDOW_IMAGES):
        ids = images.image_ids[start : start + WINDOW_IMAGES]

        def read(
            member: int, rows: Int[np.ndarray, " row"], ids: Shaped[np.ndarray, " image"] = ids
        ) -> Float[np.ndarray, "row class"]:
            return read_column(table, networks[member], ids[rows])

        parts.append(follow(cascade, weighting, (len(ids), len(images.classes)), read))
    return CascadeAnswers(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0]))
    )


def _choose(images: ImageIndex, decode: Callable[[str], Pixels]) -> dict[str, Pixels]:
    """Decode images at equal distances until there are enough; large ones only for want of others."""
    count = min(_CANDIDATES, len(images))
    # Of each quarter one at a time, so that the first eight are spread over the whole split.
    rows = np.linspace(0, len(images) - 1, count).astype(int)
    order = [row for start in range(4) for row in rows[start::4].tolist()]
    small: dict[str, Pixels] = {}
    smallest: tuple[str, Pixels] | None = None
    for row in dict.fromkeys(order):
        image_id = str(images.image_ids[row])
        try:
            pixels = decode(image_id)
        except DecodeError:
            continue  # it is a bad image now; another one is as good
        if pixels.shape[0] * pixels.shape[1] <= _MAX_PIXELS:
            small[image_id] = pixels
        elif smallest is None or pixels.size < smallest[1].size:
            smallest = image_id, pixels
        if len(small) == NUM_IMAGES:
            break
    return small or (dict([smallest]) if smallest else {})
