"""Golden answers from the logit table: what a run was judged by, and no forward pass more."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ensemble.artifact.golden import Golden, Pixels, tolerance_of
from ensemble.errors import DecodeError
from ensemble.evaluation import metrics
from ensemble.evaluation.calibration import at_temperature
from ensemble.evaluation.reading import read_column
from ensemble.images.index import ImageIndex
from ensemble.members.member import Member
from ensemble.outranking.weighting import Weighting
from ensemble.subclassifiers.answers import gather_evidence
from ensemble.subclassifiers.route import FittedRouting, answer, is_routed, rank_scores
from ensemble.table.logit_table import LogitTable

NUM_IMAGES = 8
"""Number of golden inputs: as many as the largest batch that an exported program is checked with."""

_CANDIDATES, _MAX_PIXELS = 32, 1 << 21  # two megapixels; eight PNG files of them have some 30 MB


def golden_from_table(
    table: LogitTable,
    members: Sequence[Member],
    weighting: Weighting,
    routing: FittedRouting | None,
    temperature: float,
    images: ImageIndex,
    decode: Callable[[str], Pixels],
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

    Returns:
        The golden inputs; None where no image can be decoded any more.
    """
    pixels = _choose(images, decode)
    if not pixels:
        return None
    position = {image_id: row for row, image_id in enumerate(images.image_ids.tolist())}
    chosen = images.take(np.array([position[image_id] for image_id in pixels]))
    used = [member for member, units in zip(members, weighting.units, strict=True) if units]
    precisions = [member.precision for member in used]
    if routing is not None and routing.routing.is_open:
        fitted = routing.routing
        precisions += [member.precision for member in routing.subclassifiers.values()]
        evidence = gather_evidence(
            table, members, chosen, weighting, fitted.clusters, routing.subclassifiers
        )
        routed = is_routed(evidence.base, fitted)
        probabilities = answer(evidence.base, evidence.subs, fitted, routed)
        answers = rank_scores(evidence.base, evidence.subs, fitted, routed).argmax(axis=1)
    else:
        columns = [read_column(table, member, chosen.image_ids) for member in used]
        weights = replace(weighting, units=weighting.units[weighting.units > 0])
        probabilities = metrics.pooled(columns, weights)
        answers = probabilities.argmax(axis=1)
    return Golden(
        tuple(pixels.values()),
        at_temperature(probabilities, temperature),
        answers,
        tolerance_of(precisions),
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
