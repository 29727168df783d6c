"""The greedy search of the weighted-ensemble paper (its Table 1).

Members come from best to worst. The first gets weight 1.00. Each of the others gets the weight
among 0.00, 0.01, …, 1.00 at which the weighted sum so far plus this member has the fewest errors;
0.00 means that it is not selected. Where the paper is silent we choose: of several best weights the
smallest, of several members with the same error the one with the lower NLL, then the first in the
pool. Caps are ours: a member that they forbid gets 0.00.
"""

import numpy as np
from jaxtyping import Float, Int

from ensemble.outranking.boxed import box_table
from ensemble.outranking.fixed_point import GRID_STEPS, WEIGHT_UNITS
from ensemble.outranking.one_weight import nlls, sweep
from ensemble.outranking.table import OutrankingTable
from ensemble.search.limits import Limits
from ensemble.search.result import Ensemble, SearchStep
from ensemble.search.settings import SearchConfig
from ensemble.search.weights import anchor_step, anchor_units, best_first, finish, late_note

_STEP_UNITS = WEIGHT_UNITS // GRID_STEPS


def fit(table: OutrankingTable, config: SearchConfig) -> Ensemble:
    """Search as Table 1 does."""
    limits, k = Limits.of(table, config), config.error_k
    anchor, *others = limits.affordable(best_first(table, config))
    units, steps = anchor_units(table, anchor), [anchor_step(table, anchor, k)]
    boxed = box_table(table, anchor, k)
    scores = boxed.scores(units)
    for member in others:
        if limits.is_late:
            return finish(boxed, config, "paper", units, tuple(steps), (_note(config, steps),))
        if not limits.allow_more(units > 0, member):
            continue
        curve = sweep(boxed, units, member, k, scores)
        losses = _nlls(table, units, member) if config.objective == "nll" else curve
        chosen = int(losses.argmin())  # the first minimum: the smallest weight
        if chosen:
            units[member] = chosen * _STEP_UNITS
            scores += boxed.differences[member] * float(units[member])
        name, weight = table.member_names[member], chosen / GRID_STEPS
        steps.append(SearchStep(name, weight, int(curve[chosen]), chosen > 0, curve))
    return finish(boxed, config, "paper", units, tuple(steps))


def _nlls(
    table: OutrankingTable, units: Int[np.ndarray, " member"], member: int
) -> Float[np.ndarray, " weight"]:
    """Give the NLL at each weight of the grid."""
    return np.array(nlls(table, units, member, range(0, WEIGHT_UNITS + 1, _STEP_UNITS)))


def _note(config: SearchConfig, steps: list[SearchStep]) -> str:
    return late_note(config, f"after {len(steps)} members")
