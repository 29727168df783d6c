"""The paper's greedy search with the exact optimum over all weights from 0 to 1.00.

As in `paper`, but each member's weight is sought among all multiples of 0.00001, which hold the
paper's grid: from the same weights so far, no step ends with more errors than the grid's. Between
two neighbours nothing is missed but plateaus narrower than that. Ties as in `state`.

Source: Och 2003 for the line search.
"""

from ensemble.search.config import SearchConfig
from ensemble.search.limits import Limits
from ensemble.search.order import by_objective
from ensemble.search.outranking import OutrankingTable
from ensemble.search.result import Ensemble
from ensemble.search.state import WeightState, anchor_step, anchor_units, finish, late_note


def fit(table: OutrankingTable, config: SearchConfig) -> Ensemble:
    """Search in the order of the paper, over all weights."""
    limits, k = Limits.of(table, config), config.error_k
    anchor, *others = limits.affordable(by_objective(table, config))
    state = WeightState(table.boxed(anchor, k), config, anchor_units(table, anchor))
    steps = [anchor_step(table, anchor, k)]
    for member in others:
        if limits.is_late:
            note = late_note(config, f"after {len(steps)} members")
            return finish(state.table, config, "line", state.units, tuple(steps), (note,))
        if limits.allow_more(state.units > 0, member):
            choice = state.best_weight(member)
            state.set(member, choice.weight)
            steps.append(state.step(member, choice))
    return finish(state.table, config, "line", state.units, tuple(steps))
