"""The greedy search of the weighted-ensemble paper (its Table 1).

Members come from best to worst. The first gets weight 1.00. Each of the others gets the weight
among 0.00, 0.01, …, 1.00 at which the weighted sum so far plus this member has the fewest errors;
0.00 means that it is not selected. Where the paper is silent we choose: of several best weights the
smallest, of several members with the same error the one with the lower NLL, then the first in the
pool.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Int

from ensemble.search.config import SearchConfig
from ensemble.search.fixed_point import WEIGHT_STEPS
from ensemble.search.order import best_first
from ensemble.search.outranking import OutrankingTable
from ensemble.search.result import Ensemble, SearchStep


def fit(table: OutrankingTable, config: SearchConfig) -> Ensemble:
    """Search with all images counted once."""
    anchor, *others = best_first(table, config.k).tolist()
    errors = int(table.member_errors(config.k)[anchor])
    name = table.member_names[anchor]
    first = SearchStep(name, 1.0, errors, True, np.zeros(0, np.int64))
    steps = (first, *greedy_steps(table.boxed(anchor, config.k), anchor, others, config.k))
    weight_of = {step.member: step.weight for step in steps}
    return Ensemble(
        members=table.member_names,
        weights=np.array([weight_of[name] for name in table.member_names]),
        kind="paper",
        k=config.k,
        errors=steps[-1].errors,
        num_images=table.num_images,
        steps=steps,
    )


def greedy_steps(
    table: OutrankingTable,
    anchor: int,
    others: Iterable[int],
    k: int,
    image_counts: Int[np.ndarray, " image"] | None = None,
) -> list[SearchStep]:
    """Decide the weights of all members but the anchor, one after the other.

    Args:
        table: The full table, or the one boxed around the anchor for this k.
        anchor: Index of the member with weight 1.00.
        others: Indices of the others, from best to worst.
        k: The error is top-k.
        image_counts: How often each image counts; once each by default.
    """
    hundredths = np.zeros(table.num_members, dtype=np.int64)
    hundredths[anchor] = WEIGHT_STEPS
    scores = table.scores(hundredths)
    steps = []
    for member in others:
        curve = table.sweep(hundredths, member, k, image_counts, scores)
        chosen = int(curve.argmin())  # the first minimum: the smallest weight
        hundredths[member] = chosen
        if chosen:
            scores += table.differences[member] * chosen
        steps.append(
            SearchStep(
                member=table.member_names[member],
                weight=chosen / WEIGHT_STEPS,
                errors=int(curve[chosen]),
                selected=chosen > 0,
                errors_by_weight=curve,
            )
        )
    return steps
